//! What must go on while nodes die: tasks start, nothing runs twice unseen, nothing acknowledged is lost, and a cluster that cannot go
//! on says so.

mod catch_up;
mod feed;
mod frozen;
mod kills;
mod no_quorum;
mod restarts;
mod retries;
