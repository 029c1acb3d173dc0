-- What sql/standin/0003_realtime.sql made at first. The file as it is now makes other functions in their place.
drop function realtime.visible_to(regclass, text[], text[], text[], text[]);
drop function realtime.passes(text, regtype, text, text);
