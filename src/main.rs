//! The program `lakh`: what was typed, turned into a call of the library and an exit code.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use lakh::admin;
use lakh::cli::catalogue::Unlisted;
use lakh::cli::fetch::Unfetched;
use lakh::cli::profile::Unprofiled;
use lakh::cli::{Cli, Command, Serve, catalogue, doctor, plan, profile, simulate};
use lakh::config::{Config, Gathered, Rejected, gather};
use lakh::meter::Host;
use lakh::tree::{Ground, Inherited, Tree, survey};
use lakh::upstream::embedded::Embedded;
use lakh::upstream::minder;

// An idle client is a few small objects: mimalloc takes 136 B for one where glibc takes 327 B (design.md section 4).
#[cfg(not(feature = "dhat-heap"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "dhat-heap")]
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// `EX_USAGE` of sysexits.h: what was asked for cannot be, or not here; nothing was begun. What was begun and failed ends
/// with 1.
const EXIT_USAGE: u8 = 64;
/// Ended by a second signal, with answers owed.
const EXIT_HURRIED: i32 = 1;
/// What is logged beside a catalogue, if the user has said nothing: who did not come, and why, is told at the end.
const QUIET_LOG: &str = "warn,lakh::upstream::life=error,bastion=off";
/// How often the main thread looks for a signal.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command.unwrap_or_else(|| Command::Serve(Box::default())),
        Err(told) => {
            // To a reader that is gone nothing can be told.
            let _ = told.print();
            return if told.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let word = command.word();
    run(command).unwrap_or_else(|error| {
        if reader_is_gone(&*error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("lakh {word}: {error}");
        EXIT_USAGE.into()
    })
}

/// `lakh ... | head`: who asked has seen enough.
fn reader_is_gone(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Serve(flags) => {
            // Itself, also after an upgrade has put another file in its place.
            minder::set_program("/proc/self/exe".into());
            serve(*flags)
        }
        Command::PrintConfig(flags) => {
            io::stdout().write_all(configure(&flags)?.to_toml().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor { connections } => {
            let fits = doctor::run(connections, &Host::read(), &mut io::stdout().lock())?;
            Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Catalogue(args) => show_catalogue(&args),
        Command::Profile(args) => match profile::run(&args, &mut io::stdout().lock()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error @ Unprofiled::Unfetched(Unfetched::Address(_))) => Err(error.into()),
            Err(error) => {
                eprintln!("lakh profile: {error}");
                Ok(ExitCode::FAILURE)
            }
        },
        Command::Plan(args) => match plan::run(&args, &std::env::current_exe()?, &mut io::stdout().lock()) {
            Ok(holds) => Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
            Err(plan::Unplanned::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) if error.is_failure() => {
                eprintln!("lakh plan: {error}");
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error.into()),
        },
        Command::Simulate(args) => {
            let outcome = simulate::run(&args, &std::env::current_exe()?)?;
            let told =
                if args.json { serde_json::to_string_pretty(&outcome)? + "\n" } else { simulate::table(&outcome) };
            // A reader that is gone changes nothing about the outcome.
            let _ = io::stdout().write_all(told.as_bytes());
            Ok(if outcome.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Mind { command } => Ok(minder::mind(&command)?.into()),
        Command::SimulateClients { posting } => {
            simulate::serve_clients(&posting)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::SimulateGateway { args } => Err(simulate::become_gateway(&std::env::current_exe()?, &args).into()),
    }
}

fn show_catalogue(args: &catalogue::Args) -> Result<ExitCode, Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let Some(flags) = args.own_servers() else {
        return match catalogue::run(args, &mut out) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error @ Unlisted::Unfetched(Unfetched::Address(_))) => Err(error.into()),
            Err(error) => {
                eprintln!("lakh catalogue: {error}");
                Ok(ExitCode::FAILURE)
            }
        };
    };
    minder::set_program("/proc/self/exe".into());
    let config = configure(&flags)?;
    let log = if config.log == Config::default().log { QUIET_LOG } else { &config.log };
    tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(log_filter(log)?).init();
    let survey = survey(&config, |line| eprintln!("{line}"))?;
    catalogue::print(&admin::listing(&survey.directory, args.json), &mut out)?;
    for missing in &survey.missing {
        eprintln!("lakh catalogue: {missing}");
    }
    if !survey.missing.is_empty() {
        eprintln!("LAKH_LOG=info shows what they say on standard error.");
    }
    Ok(if survey.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What files, variables and flags say, and a word on standard error about what of it is left out.
fn configure(flags: &Serve) -> Result<Config, Rejected> {
    let Gathered { config, warnings } = gather(flags, std::env::vars())?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    Ok(config)
}

fn serve(flags: Serve) -> Result<ExitCode, Box<dyn Error>> {
    let config = configure(&flags)?;
    #[cfg(feature = "dhat-heap")]
    let heap = note_heap();
    let (filter, relog) = reload::Layer::new(log_filter(&config.log)?);
    let colours = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    tracing_subscriber::registry().with(filter).with(lines).init();
    // The first signal sets the flag; the second finds it set and ends the process at once. No pipe: a signal may reach
    // any thread, and its handler then works on that thread's descriptor table.
    let drain = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, EXIT_HURRIED, Arc::clone(&drain))?;
        flag::register(signal, Arc::clone(&drain))?;
    }
    let hangup = Arc::new(AtomicBool::new(false));
    // Without a file there is nothing to read again, and a terminal that is closed ends what was started in it.
    if flags.config.is_some() || !flags.servers.mcp_json.is_empty() {
        flag::register(SIGHUP, Arc::clone(&hangup))?;
    }
    let inherited = match flags.take_over {
        true => Some(Inherited::take_over(&config.upgrade_socket)?),
        false => Inherited::from_systemd()?,
    };
    let ground = Ground {
        inherited,
        reread: Some(Box::new(move || configure(&flags).map_err(|error| error.to_string()))),
        relog: Some(Box::new(move |log| relog.reload(log_filter(log)?).map_err(|error| error.to_string()))),
        ending: Arc::clone(&drain),
    };
    let tree = Tree::plant_on(ground, config)?;
    if let Err(error) = greet(&tree) {
        // Whoever started it does not listen (any more); its clients do.
        tracing::warn!(%error, clients = %tree.clients(), "the greeting was not heard");
    }
    while !drain.load(Ordering::Acquire) && !tree.was_handed_over() {
        if let Some(why) = tree.given_up() {
            eprintln!("lakh serve: {why}");
            return Ok(ExitCode::FAILURE);
        }
        if hangup.swap(false, Ordering::AcqRel)
            && let Err(error) = tree.reload()
        {
            tracing::error!("SIGHUP: {error}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    // Written here, while the clients are still there: what is live now is what they cost.
    #[cfg(feature = "dhat-heap")]
    drop(heap);
    let done = tree.drain();
    drop(tree);
    tracing::info!(done, "ended");
    Ok(ExitCode::SUCCESS)
}

fn log_filter(log: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(log).map_err(|error| {
        format!("`log` = {log:?}: {error}; it takes a level, or directives such as `info,lakh::conn=debug`")
    })
}

/// Notes where every heap byte is allocated, until the value is dropped; then writes it all down.
#[cfg(feature = "dhat-heap")]
fn note_heap() -> dhat::Profiler {
    let file = std::env::var_os(simulate::HEAP_FILE).unwrap_or_else(|| "dhat-heap.json".into());
    // Deep enough to reach from a hash map's growth through its owner to the owner's caller.
    dhat::Profiler::builder().file_name(file).trim_backtraces(Some(32)).build()
}

/// Where it is, and a first call to paste.
fn greet(tree: &Tree) -> io::Result<()> {
    let (clients, admin, plan) = (tree.clients(), tree.admin(), tree.plan());
    let tables = if plan.own_tables { "a descriptor table each" } else { "one descriptor table" };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "lakh {} holds up to {} clients on {} shards, {tables}",
        env!("CARGO_PKG_VERSION"),
        plan.connections,
        plan.shards
    )?;
    writeln!(out)?;
    let path = &tree.house().config.path;
    writeln!(out, "clients  {clients}   (http://{clients}{path}, ws://{clients}{path}, or JSON lines over TCP)")?;
    writeln!(out, "admin    http://{admin}   (/health /ready /metrics /upstreams /catalogue /tree ...)")?;
    let mut upstreams = tree.upstreams();
    // What is built in is there without a word.
    upstreams.retain(|upstream| upstream.name != Embedded::UPSTREAM);
    let longest = upstreams.iter().map(|upstream| upstream.name.len()).max().unwrap_or_default();
    for (at, upstream) in upstreams.iter().enumerate() {
        let heading = if at == 0 { "behind" } else { "" };
        writeln!(out, "{heading:<7}  {:<longest$}  {}", upstream.name, upstream.summary())?;
    }
    writeln!(out)?;
    if !upstreams.is_empty() {
        writeln!(out, "`lakh catalogue` shows what they offer.")?;
        return out.flush();
    }
    writeln!(out, "A first call, to paste into another shell:")?;
    writeln!(out, "{}", first_call(clients))?;
    out.flush()
}

/// Needs only bash: a request of 2026-07-28 is complete in itself.
fn first_call(clients: std::net::SocketAddr) -> String {
    let (ip, port) = (clients.ip(), clients.port());
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"hello"}},{meta}}}}}"#
    );
    format!("exec 3<>/dev/tcp/{ip}/{port}; echo '{call}' >&3; head -n 1 <&3; exec 3>&-")
}
