-- Files that go with a prompt. They are stored apart from the command's row, which has only their names, types, sizes
-- and hashes.

create table onsembl.attachments (
    id uuid primary key default gen_random_uuid(),
    operator_id uuid not null,              -- who has sent the file, and may give it to a command
    name text not null check (length(name) between 1 and 200),
    media_type text not null check (length(media_type) <= 100),
    size integer not null check (size between 1 and 10485760),
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    content bytea not null,
    created_at timestamptz not null default now()
);
alter table onsembl.attachments alter column content set storage external;  -- images are compressed already
create index on onsembl.attachments (operator_id);
create index on onsembl.attachments (created_at);

create table onsembl.command_attachments (
    command_id uuid not null references onsembl.commands on delete cascade,
    attachment_id uuid not null references onsembl.attachments on delete cascade,
    primary key (command_id, attachment_id)
);
create index on onsembl.command_attachments (attachment_id);

alter table onsembl.attachments enable row level security;
create policy api on onsembl.attachments to onsembl_api using (true) with check (true);
grant select, insert, update, delete on onsembl.attachments to onsembl_api;  -- a row lock needs update
alter table onsembl.command_attachments enable row level security;
create policy api on onsembl.command_attachments to onsembl_api using (true) with check (true);
grant select, insert, delete on onsembl.command_attachments to onsembl_api;

alter table onsembl.agents add takes_attachments boolean not null default false;
grant select (takes_attachments) on onsembl.agents to authenticated;
