//! Reading a secret: cache rules, response formats, secret names, outages.

mod batch;
mod caching_table;
mod format;
mod name;
mod outage;
mod read_secret;
mod watch;
