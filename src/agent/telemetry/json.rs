//! Log lines in JSON, with the member names of Zap, which the official agent logs with: `level` in lower case, `ts` in
//! seconds since 1970, `caller`, `msg`; then `target` and the fields of the line.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// Returns the line for `event`, with its line break.
pub(super) fn line(event: &Event<'_>) -> Result<String, fmt::Error> {
    let mut line = Vec::with_capacity(256);
    write(&mut line, event, SystemTime::now()).map_err(|_| fmt::Error)?;
    line.push(b'\n');
    String::from_utf8(line).map_err(|_| fmt::Error)
}

fn write(line: &mut Vec<u8>, event: &Event<'_>, now: SystemTime) -> Result<(), serde_json::Error> {
    let metadata = event.metadata();
    let mut message = MessageField::default();
    event.record(&mut message);
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("level", level(*metadata.level()))?;
    map.serialize_entry("ts", &seconds(now))?;
    if let Some(caller) = caller(metadata) {
        map.serialize_entry("caller", &caller)?;
    }
    map.serialize_entry("msg", &message.0)?;
    map.serialize_entry("target", metadata.target())?;
    let mut fields = Fields {
        map,
        names: ["level", "ts", "caller", "msg", "target"].into(),
        result: Ok(()),
    };
    event.record(&mut fields);
    fields.result?;
    fields.map.end()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        // Zap has no level below.
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Returns seconds since 1970, with microseconds, the precision of a double.
fn seconds(now: SystemTime) -> f64 {
    let micros = match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_micros()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_micros()).map_or(i128::MIN, |it| -it),
    };
    micros as f64 / 1e6
}

/// Returns the last folder, the file and the line, as Zap does.
fn caller(metadata: &Metadata<'_>) -> Option<String> {
    let (file, line) = (metadata.file()?, metadata.line()?);
    let mut parts = file.rsplit(['/', '\\']);
    let name = parts.next()?;
    Some(match parts.next() {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    })
}

/// Message of a line.
#[derive(Default)]
struct MessageField(String);

impl Visit for MessageField {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Writes every field but the message. A name that the line already has gets an underscore, so that names are unique.
struct Fields<M: SerializeMap> {
    map: M,
    names: BTreeSet<&'static str>,
    /// The first failure.
    result: Result<(), M::Error>,
}

impl<M: SerializeMap> Fields<M> {
    fn write(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        let name = field.name();
        if name == "message" || self.result.is_err() {
            return;
        }
        self.result = if self.names.insert(name) {
            self.map.serialize_entry(name, value)
        } else {
            self.map.serialize_entry(&format!("{name}_"), value)
        };
    }
}

impl<M: SerializeMap> Visit for Fields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }

    /// Writes the error and its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        self.write(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::{Value, json};
    use tracing::Subscriber;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Keeps the line of the last event.
    #[derive(Clone, Default)]
    struct Last(Arc<Mutex<String>>);

    impl<S: Subscriber> Layer<S> for Last {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() = line(event).unwrap();
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let last = Last::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(last.clone()), log);
        std::mem::take(&mut last.0.lock().unwrap())
    }

    #[test]
    fn members_have_the_names_and_the_order_of_zap() {
        let text = logged(|| tracing::warn!(target: "access", count = 3, "It \"works\""));
        let (head, _) = text.split_once(",\"ts\":").unwrap();
        assert_eq!(head, "{\"level\":\"warn\"");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "It \"works\"");
        assert_eq!(line["target"], "access");
        assert_eq!(line["count"], 3);
        let caller = line["caller"].as_str().unwrap();
        assert!(caller.starts_with("telemetry/json.rs:"), "{caller}");
        let age = seconds(SystemTime::now()) - line["ts"].as_f64().unwrap();
        assert!((0.0..600.0).contains(&age), "{age}");
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn fields_keep_their_types_and_never_take_the_place_of_a_member() {
        let error = io::Error::other(fmt::Error);
        let text = logged(|| {
            tracing::error!(
                level = 1,
                msg = true,
                name = %"x\ny",
                odd = f64::NAN,
                error = &error as &dyn Error,
                "It failed"
            );
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["level_"], 1);
        assert_eq!(line["msg"], "It failed");
        assert_eq!(line["msg_"], true);
        assert_eq!(line["name"], "x\ny");
        assert_eq!(line["odd"], json!(null));
        assert!(
            line["error"]
                .as_str()
                .unwrap()
                .starts_with(&fmt::Error.to_string())
        );
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_time_before_1970_is_negative() {
        assert!((seconds(UNIX_EPOCH - Duration::from_millis(1500)) + 1.5).abs() < 1e-9);
        assert!(
            (seconds(UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456))
                - 1_700_000_000.123_456)
                .abs()
                < 1e-6
        );
    }
}
