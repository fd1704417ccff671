//! `kms-emulator`: the emulator as a program.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kms_agent_emulator::{AccessKey, Emulator, Options, PutSecret};

/// Alibaba Cloud KMS, STS and the ECS metadata service on one loopback port.
///
/// Requests are checked as the real services check them: signature, clock, nonce, security token. Secrets,
/// faults and everything else can be changed while it runs with POST /_emulator. It is a tool for
/// development and tests: nothing is stored, and every program that reaches the port can give it orders.
#[derive(Parser)]
#[command(
    name = "kms-emulator",
    version,
    after_help = "Example:\n  \
        kms-emulator --port 8600 --access-key LTAI5tDemo:demo --secret app/db=hunter2\n  \
        curl -d '{\"fault\":{\"kind\":\"throttle\",\"times\":2}}' http://127.0.0.1:8600/_emulator\n\n\
        Ctrl-C ends it."
)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Speak HTTPS, with a certificate of a CA made for this run
    #[arg(long)]
    https: bool,
    /// Write that CA's certificate to FILE, as PEM
    #[arg(long, value_name = "FILE", requires = "https")]
    ca_out: Option<PathBuf>,
    /// A secret to begin with; the name ends at the first '='. May be repeated
    #[arg(long = "secret", value_name = "NAME=VALUE")]
    secrets: Vec<String>,
    /// An access key that is accepted; without any, one is drawn and printed. May be repeated
    #[arg(long = "access-key", value_name = "ID:SECRET")]
    access_keys: Vec<String>,
    /// Region to claim
    #[arg(long, default_value = "cn-hangzhou")]
    region: String,
    /// Take no orders at /_emulator
    #[arg(long)]
    no_control: bool,
}

/// Parses secrets and keys. clap does not parse them, because its errors repeat a wrong value.
struct Setup {
    secrets: Vec<PutSecret>,
    access_keys: Vec<AccessKey>,
}

impl Setup {
    fn parse(arguments: &Arguments) -> Result<Self, clap::Error> {
        let secrets = arguments.secrets.iter().map(|text| secret(text));
        let access_keys = arguments.access_keys.iter().map(|text| access_key(text));
        let wrong = |reason| Arguments::command().error(ErrorKind::ValueValidation, reason);
        Ok(Self {
            secrets: secrets.collect::<Result<_, _>>().map_err(wrong)?,
            access_keys: access_keys.collect::<Result<_, _>>().map_err(wrong)?,
        })
    }
}

fn secret(text: &str) -> Result<PutSecret, &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(PutSecret::new(name, value)),
        _ => Err("--secret must be NAME=VALUE"),
    }
}

fn access_key(text: &str) -> Result<AccessKey, &'static str> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => {
            Ok(AccessKey::new(id, secret))
        }
        _ => Err("--access-key must be ID:SECRET"),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let setup = match Setup::parse(&arguments) {
        Ok(setup) => setup,
        Err(error) => error.exit(),
    };
    match run(&arguments, setup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without stderr the error cannot be reported.
            let _ = writeln!(io::stderr(), "kms-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, setup: Setup) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(emulate(arguments, setup))
}

async fn emulate(arguments: &Arguments, setup: Setup) -> io::Result<()> {
    let mut keys = setup.access_keys.into_iter();
    let first = keys.next();
    let is_drawn = first.is_none();
    let emulator = Emulator::start(Options {
        port: arguments.port,
        tls: arguments.https,
        control_api: !arguments.no_control,
        region: arguments.region.clone(),
        access_key: first,
        ..Options::default()
    })?;
    for key in keys {
        emulator.add_access_key(key);
    }
    for secret in setup.secrets {
        emulator.put_secret(secret).map_err(io::Error::other)?;
    }
    if let (Some(path), Some(pem)) = (&arguments.ca_out, emulator.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    let interrupted = interruption()?;
    announce(&emulator, is_drawn)?;
    interrupted.await?;
    emulator.stop().await;
    Ok(())
}

/// Prints the address. A random key is valid for this run only, so it is printed too.
fn announce(emulator: &Emulator, with_key: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "emulator on {}", emulator.base_url())?;
    if with_key {
        let key = emulator.access_key();
        writeln!(out, "export ALIBABA_CLOUD_ACCESS_KEY_ID={}", key.id())?;
        let secret = key.expose_secret();
        writeln!(out, "export ALIBABA_CLOUD_ACCESS_KEY_SECRET={secret}")?;
    }
    out.flush()
}

/// Listens for termination signals from now on; the future ends at the first one.
#[cfg(unix)]
fn interruption() -> io::Result<impl Future<Output = io::Result<()>>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// Listens for Ctrl-C; the future ends at the first one.
#[cfg(not(unix))]
fn interruption() -> io::Result<impl Future<Output = io::Result<()>>> {
    Ok(tokio::signal::ctrl_c())
}
