//! Helpers for tests of the whole program: the program as a child process, the simulated exchange in this process, and an
//! HTTP client that adds no header of its own.

pub mod authority;
pub mod browser;
pub mod connect_proxy;
pub mod dashboards;
pub mod golden;
pub mod hanging_folder;
pub mod in_process;
pub mod messages;
pub mod notify_socket;
pub mod promql;
pub mod proxy;
pub mod static_program;
pub mod text_format;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use xt_balance_exporter::simulator::{SimulatedAccount, SimulatedWallet, Simulator, SimulatorConfig};

/// Maximum time of every wait, also on a busy machine.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Replaces a file atomically, so that its inode changes too. Only its owner can read it.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

pub const ACCESS_KEY: &str = "myAccessKey";
pub const SECRET_KEY: &str = "mySecretKey";

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_xt-balance-exporter");

/// Runs `work` with each of `cases`, several at a time, for work that waits more than it computes.
pub fn run_concurrently<T: Send>(cases: Vec<T>, work: impl Fn(T) + Sync) {
    const WORKERS: usize = 8;
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = next() {
                    work(case);
                }
            });
        }
    });
}

/// The command that runs only the test `name` of `module` (a `module_path!()`) in a new process, for a test that changes its
/// process.
pub fn test_process_command(module: &str, name: &str) -> Command {
    let module = module.split_once("::").map_or(module, |(_, path)| path);
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", &format!("{module}::{name}")]);
    again
}

/// The program, running. Killed when dropped.
pub struct Exporter {
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

/// The lines that a child has written to one of its outputs so far.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<LineBuffer>, Condvar)>);

/// Lines, and whether the output is closed.
type LineBuffer = (Vec<String>, bool);

impl Exporter {
    /// Starts the program with `args` and, of the environment, only `env`.
    pub fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(PROGRAM), args, env)
    }

    /// Like [`Self::start`], by a `command` that executes the program.
    pub fn start_by(command: Command, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_with_input(command, Stdio::null(), args, env)
    }

    /// Starts the program with a `socket` that it inherits as from systemd.
    pub fn start_with_socket(socket: OwnedFd, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 < /dev/null";
        shell.args(["-c", script, PROGRAM]);
        Self::start_with_input(shell, Stdio::from(socket), args, env)
    }

    fn start_with_input(mut command: Command, input: Stdio, args: &[&str], env: &[(&str, &str)]) -> Self {
        command.args(args).env_clear().envs(env.iter().copied()).stdin(input);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::read_from(child.stdout.take().unwrap());
        let stderr = Lines::read_from(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Starts the daemon on a free port, watching the account `main` of an exchange at `url`.
    pub fn serve(url: &str, more: &[&str]) -> Self {
        let args = [&["--web.listen-address=127.0.0.1:0", "--xt.base-url", url], more].concat();
        Self::start(&args, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)])
    }

    /// Runs the program to its end.
    pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
        Self::start(args, env).wait()
    }

    /// The address that it logs as its listen address.
    pub fn address(&self) -> SocketAddr {
        let line = self.stderr.wait_for(messages::LISTENING);
        let address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.trim().parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        get(self.address(), path, &[])
    }

    pub fn metrics(&self) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// The value of a sample, by its name and labels as they stand in the exposition.
    pub fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.metrics(), series)
    }

    /// Waits until the first poll of every account has ended.
    pub fn ready(&self) {
        let address = self.address();
        until("it is ready", || (get(address, "/-/ready", &[]).status == 200).then_some(()));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name before the bracket may hold blanks.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process ends.
    pub fn wait(mut self) -> Output {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it has not ended: {}", self.stderr.text()),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        Output { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a process that has ended.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Lines {
    pub fn read_from(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                writer.0.0.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().1 = true;
            writer.0.1.notify_all();
        });
        lines
    }

    /// Waits for a line that contains `part`, and returns it.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait_for_within(part, WAIT_TIMEOUT)
    }

    /// Waits at most `deadline` for a line that contains `part`, and returns it.
    pub fn wait_for_within(&self, part: &str, deadline: Duration) -> String {
        let state = self.0.0.lock().unwrap();
        let misses =
            |(lines, ended): &mut LineBuffer| !*ended && !lines.iter().any(|line| line.contains(part));
        let (state, _) = self.0.1.wait_timeout_while(state, deadline, misses).unwrap();
        let found = state.0.iter().find(|line| line.contains(part)).cloned();
        found.unwrap_or_else(|| panic!("no line with {part:?} in:\n{}", state.0.join("\n")))
    }

    /// The text so far.
    pub fn text(&self) -> String {
        join_lines(&self.0.0.lock().unwrap().0)
    }

    /// The whole text, once the output is closed.
    pub fn all(&self) -> String {
        let state = self.0.0.lock().unwrap();
        let (state, late) = self.0.1.wait_timeout_while(state, WAIT_TIMEOUT, |(_, ended)| !*ended).unwrap();
        assert!(!late.timed_out(), "the output is still open");
        join_lines(&state.0)
    }
}

fn join_lines(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The simulated exchange, on a free port of this process until dropped.
pub struct Exchange {
    pub simulator: Simulator,
    pub address: SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Exchange {
    pub fn new(rules: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        Self::new_at(SocketAddr::from(([127, 0, 0, 1], 0)), rules, accounts)
    }

    /// Like [`Self::new`], on an address of this machine.
    pub fn new_at(address: SocketAddr, rules: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        let simulator = Simulator::new(rules, accounts);
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = simulator.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                serving.serve(listener, async { drop(stopped.await) }).await;
            });
        });
        Self { simulator, address, _stop: stop }
    }

    /// One account, with the balances of XT's documentation of getBalance.
    pub fn documented() -> Self {
        let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
            .with_balance(SimulatedWallet::Spot, "btc", "0.00", "0.00")
            .with_balance(SimulatedWallet::Spot, "eth", "0.00", "0.00")
            .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341")
            .with_balance(SimulatedWallet::Spot, "ltc", "0.00", "0.00");
        Self::new(SimulatorConfig::default(), vec![account])
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    request("GET", address, path, headers)
}

/// Sends one request on a connection of its own and reads all that comes back.
pub fn request(method: &str, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let mut lines =
        vec![format!("{method} {path} HTTP/1.1"), format!("Host: {address}"), "Connection: close".to_owned()];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    stream.write_all((lines.join("\r\n") + "\r\n\r\n").as_bytes()).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    answer(&raw)
}

pub fn answer(raw: &[u8]) -> Answer {
    let split = raw
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(raw)));
    let head = String::from_utf8(raw[..split].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status, headers: lines.filter_map(header).collect(), body: raw[split + 4..].to_vec() }
}

/// The value of a sample, by its name and labels as they stand in the exposition.
pub fn sample(exposition: &str, series: &str) -> Option<f64> {
    let line = exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// Polls until the condition returns a value, for states of another process that send no event.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
