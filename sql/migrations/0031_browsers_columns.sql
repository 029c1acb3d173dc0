-- What operators' browsers read by Realtime: of each published table the columns that the REST API shows to the same
-- role, and no others. The page's channels are private: only the database and the secret key can send to them.

-- The role of the request's user: with the built-in Supabase the present one, with a hosted project that of the token.
do $$
begin
    execute format(
        'create function onsembl.operator_role() returns text
            language sql stable security definer set search_path = ''''
            return %s',
        case when to_regprocedure('auth.present_role()') is not null then 'auth.present_role()'
            else 'auth.jwt() -> ''app_metadata'' ->> ''role''' end);
end
$$;
revoke execute on function onsembl.operator_role() from public;

create or replace function onsembl.is_operator() returns boolean
    language sql stable security definer set search_path = ''
    return coalesce(onsembl.operator_role(), '') in ('viewer', 'operator', 'admin')
        and not exists (select from onsembl.operators where id = auth.uid() and disabled_at is not null);

create function onsembl.is_admin() returns boolean
    language sql stable security definer set search_path = ''
    return coalesce(onsembl.operator_role(), '') = 'admin' and onsembl.is_operator();
revoke execute on function onsembl.is_admin() from public;
grant execute on function onsembl.is_admin() to authenticated, onsembl_api;

alter policy operators_read on onsembl.device_requests using ((select onsembl.is_admin()));
alter policy operators_read on onsembl.schedules using ((select onsembl.is_operator()));
alter policy operators_read on onsembl.conversations using ((select onsembl.is_operator()));
alter policy operators_read on onsembl.turn_progress using ((select onsembl.is_operator()));

revoke select on onsembl.agents, onsembl.alerts, onsembl.commands, onsembl.halts, onsembl.halt_agents,
    onsembl.schedules, onsembl.streams, onsembl.conversations, onsembl.turn_progress from authenticated;
drop policy operators_read on onsembl.streams;

grant select (id, name, kind, mode, host, platform, version, created_at, disabled_at, status, epoch, instance_id,
              connected_at, disconnected_at, stream_id, columns, rows, paused_at, paused_by_name, labels, limits,
              permission_mode)
    on onsembl.agents to authenticated;
grant select (id, at, kind, agent_id, text, acknowledged_at, acknowledged_by) on onsembl.alerts to authenticated;
grant select (id, seq, agent_id, text, priority, state, requested_by, requested_by_name, created_at, dispatched_at,
              started_at, ended_at, cancel_requested_at, cancel_requested_by, cancel_reason, cancel_step, exit_code,
              signal, error, stream_id, output_start, output_end, usage, job_id, delivery_attempts, group_id, preset,
              position, revision, note, tags, request_id, limits, limit_passed, conversation_id, turn, denied, denials)
    on onsembl.commands to authenticated;
grant select (id, seq, agent_id, cli_id, title, state, imported, forked_from, folder, branch, model, permission_mode,
              context_tokens, context_window, created_at, active_at)
    on onsembl.conversations to authenticated;
grant select (id, number, at, requested_by, requested_by_name, reason, seconds, lifted_at, lifted_by, lifted_by_name)
    on onsembl.halts to authenticated;
grant select (id, halt_id, agent_id, state, step, processes_left, pids, at) on onsembl.halt_agents to authenticated;
grant select (id, name, target, text, preset, "values", priority, limits, conversation, model, effort, permission_mode, cron,
              time_zone, at, next_at, paused_at, paused_by_name, revision, created_at, updated_at, updated_by, updated_by_name)
    on onsembl.schedules to authenticated;

grant select (command_id, agent_id, steps, number, kind, name, title, status, changed, updated_at)
    on onsembl.turn_progress to authenticated;

-- Lets operators join the page's private channels; whether the policy was missing. `onsembl supabase setup` calls this
-- again: a project that has never used Realtime has no `realtime.messages` yet.
create function onsembl.create_channel_policy() returns boolean
    language plpgsql as
$$
begin
    if to_regclass('realtime.messages') is null or exists (
        select from pg_policies
        where schemaname = 'realtime' and tablename = 'messages' and policyname = 'onsembl_operators_read')
    then
        return false;
    end if;
    create policy onsembl_operators_read on realtime.messages for select to authenticated
        using ((select onsembl.is_operator()) and (select realtime.topic()) like 'onsembl-%');
    return true;
end
$$;

do $$
begin
    perform onsembl.create_channel_policy();
exception when insufficient_privilege then
    raise warning 'The policy for the page''s channels is missing (%). Run: onsembl supabase setup', sqlerrm;
end
$$;
