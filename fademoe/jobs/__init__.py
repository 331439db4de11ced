"""The work of RQ workers: plan, fetch and store.

seed                 what a user wants, and its windows
reconcile            every minute: what is wanted and missing is enqueued
plan                 gaps become windows, the most urgent first
backfill             the job of one window of history
window_run           one run of a window's job, and what it reports to
fetch                the engine: windows become pages, pages become checked rows
silences             where a sparse feed's silence is asked about again
feed_client          requests of one run: waits for a rate limit, gives way
failures             what follows an error of a window's job
linking              rows that are completed by the time of the row before
gaps                 what is missing, and why, for `fademoe gaps`
audit                stored rows fetched again and compared
newest               the newest minutes that no stream brought
newest_settlements   the newest settlements
polls                current values
rounds               the requests of one round, for many contracts
terms                terms of contracts that their list does not tell
archive_plan         which missing ranges come from files of archives
archive              the job of an archive's period
archive_target       what it works on: a life of a contract, and what is missing
archive_files        its files: fetched, read and proved
archive_gathered     what the files gave
archive_labels       which instant the lines of a file describe
archive_store        what the files prove, stored
archive_audit        files beside what is stored
archive_check        the ledger compared with what the archive has now
dead                 dead contracts, from the listings of archives
hours                hours of stored series
maintenance          lists of contracts, partitions, retention
notify               the delivery of alerts
research             backtests and sweeps
threads              work in threads that a stop does not wait for
"""
