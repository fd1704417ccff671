//! The server's clock.

use std::time::Duration;

use super::{Link, lock};
use crate::keyring::Keyring;
use crate::server::connection::Connection;
use crate::server::session::server_millis;
use crate::server::time::ServerTime;
use crate::server::trouble::Trouble;

/// Departure of the server's clock from boot time that is warned of.
const CLOCK_JUMP_MILLIS: i64 = 2000;

/// Departure of the server's clock from the wall clock that is warned of.
const CLOCK_DIFFERENCE_MILLIS: i64 = 5 * 60 * 1000;

impl Link {
    pub(super) async fn read_time(
        &self,
        connection: &Connection,
        keyring: &Keyring,
        timeout: Duration,
        before: Option<ServerTime>,
    ) -> Result<ServerTime, Trouble> {
        let sent_at = self.boot_millis();
        let server = server_millis(connection, keyring, timeout).await?;
        let received_at = self.boot_millis();
        let least = server.saturating_sub(received_at).saturating_sub(1);
        let most = server.saturating_sub(sent_at).saturating_add(1);
        let mut valid_from = before.map_or(i64::MIN, |it| it.valid_from);
        if let Some(before) = before {
            let departed =
                least > before.most + CLOCK_JUMP_MILLIS || most < before.least - CLOCK_JUMP_MILLIS;
            if departed {
                valid_from = server;
                tracing::warn!(
                    by_ms = least - before.least,
                    "The clock of the shared cache server was set; records stored before count as expired"
                );
            } else if least <= before.most && most >= before.least {
                // The narrower of both readings holds.
                return Ok(ServerTime {
                    least: least.max(before.least),
                    most: most.min(before.most),
                    valid_from,
                });
            }
        }
        self.compare_with_wall(server);
        Ok(ServerTime {
            least,
            most,
            valid_from,
        })
    }

    pub(super) fn compare_with_wall(&self, server: i64) {
        let difference = server.saturating_sub(self.clock.wall().as_millis());
        let mut state = lock(&self.state);
        let departs = difference.abs() > CLOCK_DIFFERENCE_MILLIS;
        if departs && state.clock_confirmed && !state.clock_warned {
            tracing::warn!(
                by_ms = difference,
                "The clock of the shared cache server differs from that of KMS; set it"
            );
        }
        state.clock_warned = departs && state.clock_confirmed;
    }
}
