-- The commands of a recording, in the order of their output; one stream may live for ever and have very many.
create index commands_recorded on onsembl.commands (stream_id, output_start, seq) where output_start is not null;
