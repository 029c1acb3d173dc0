-- A report is an event when it is written whole: a draft is none, until its turn is completed.
create or replace trigger report_events after insert on onsembl.reports
    for each row when (not new.draft) execute function onsembl.report_events();
create trigger report_completed after update of draft on onsembl.reports
    for each row when (old.draft and not new.draft) execute function onsembl.report_events();
