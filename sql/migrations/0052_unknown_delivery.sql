-- An answer whose command ends before the agent has said what became of it: nobody knows whether the CLI has it, until
-- the agent's report comes after all.

alter table onsembl.attention
    drop constraint attention_delivery_check,
    add constraint attention_delivery_check check (delivery in ('waiting', 'given', 'late', 'unknown'));

create or replace function onsembl.withdraw_requests() returns trigger
    language plpgsql set search_path = '' as
$$
begin
    update onsembl.attention
        set state = 'withdrawn', closed_at = now(), reason = 'The command has ended.'
        where command_id = new.id and state = 'open';
    update onsembl.attention
        set delivery = 'unknown', secret_decision = null
        where command_id = new.id and delivery = 'waiting';
    return null;
end
$$;
