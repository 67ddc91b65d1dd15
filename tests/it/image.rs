//! The container image: built by the Dockerfile from nothing but the static program, unpacked, and
//! run by the runtime that Docker runs containers with, as its deployments say: read-only, without
//! a privilege. Only the build stage, which needs an image with a Rust toolchain, is replaced by
//! what it runs: `make static`. Needs root, buildah, umoci and runc.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::common::messages;
use crate::common::static_program::static_program;
use crate::common::{Lines, until};
use serde_json::{Value, json};

/// 9 MiB: what is pulled on every start of a new node, and kept there.
const SIZE_MAX_BYTES: u64 = 9 * 1024 * 1024;

/// A name server that knows one name, as this machine.
const NAME_SERVER: &str = r#"
import os, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("listening as", os.getpid(), flush=True)
while True:
    query, client = server.recvfrom(512)
    end = 12
    while query[end]:
        end += query[end] + 1
    known = query[12:end] == b"\x08exchange\x04test"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if known and query[end + 1:end + 3] == b"\0\1" else b""
    flags = b"\x81\x80" if known else b"\x81\x83"
    counts = b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
    server.sendto(query[:2] + flags + counts + query[12:end + 5] + answer, client)
"#;

fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Runs a program that must succeed, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/install"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An image, built and unpacked in a folder of its own.
struct Image {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Image {
    fn build() -> Self {
        let program = static_program();
        let image = Self { folder: tempfile::tempdir().unwrap(), program: program.to_owned() };
        let context = format!("build={}", program.parent().unwrap().display());
        run(image
            .buildah()
            .args(["build", "--isolation=chroot", "--format=docker", "--tag=image", "--quiet"])
            .args(["--pull-never", "--file=deploy/docker/Dockerfile", "--build-context", &context, "."]));
        image
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn buildah(&self) -> Command {
        let mut command = as_root("buildah");
        // What else is built or kept on this machine is not touched.
        command.args([
            "--storage-driver=vfs",
            "--root",
            &self.path("storage"),
            "--runroot",
            &self.path("run"),
        ]);
        command
    }

    /// What the image says of itself.
    fn config(&self) -> Value {
        let text = run(self.buildah().args(["inspect", "--type=image", "image"]));
        serde_json::from_str::<Value>(&text).unwrap()["Docker"]["config"].take()
    }

    /// Unpacks it for a container called `name`, to run with `args` behind its entry point, in the
    /// network namespace of a process or in one of its own.
    fn container(&self, name: &str, args: &[&str], env: &[&str], network: Option<&str>) -> Container {
        let (layout, bundle) = (self.path("layout"), self.path(name));
        if !Path::new(&layout).exists() {
            run(self.buildah().args(["push", "--quiet", "image", &format!("oci:{layout}:image")]));
        }
        run(as_root("umoci").args(["unpack", "--image", &format!("{layout}:image"), &bundle]));
        let file = format!("{bundle}/config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let process = &mut config["process"];
        process["terminal"] = json!(false);
        process["capabilities"] = json!({});
        process["noNewPrivileges"] = json!(true);
        process["args"].as_array_mut().unwrap().extend(args.iter().map(|arg| json!(arg)));
        process["env"].as_array_mut().unwrap().extend(env.iter().map(|variable| json!(variable)));
        config["root"]["readonly"] = json!(true);
        // As an engine tells a container its name servers: no other file of a system is there.
        fs::write(self.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/etc/resolv.conf",
            "type": "bind",
            "source": self.path("resolv.conf"),
            "options": ["bind", "ro"],
        }));
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if let (Some(process), "network") = (network, namespace["type"].as_str().unwrap()) {
                namespace["path"] = json!(format!("/proc/{process}/ns/net"));
            }
        }
        fs::write(&file, config.to_string()).unwrap();
        Container::start(self.path("containers"), &bundle, name)
    }
}

/// A container, running. Gone when dropped.
struct Container {
    state: String,
    name: String,
    runtime: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Container {
    fn start(state: String, bundle: &str, name: &str) -> Self {
        // Containers of all tests on a machine share their cgroups' names.
        let name = format!("xt-{}-{name}", std::process::id());
        let mut command = as_root("runc");
        let command = command.args(["--root", &state, "run", "--bundle", bundle, &name]).stdin(Stdio::null());
        let mut runtime = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::read_from(runtime.stdout.take().unwrap());
        let stderr = Lines::read_from(runtime.stderr.take().unwrap());
        Self { state, name, runtime, stdout, stderr }
    }

    fn runc(&self, args: &[&str]) -> Command {
        let mut command = as_root("runc");
        command.args(["--root", &self.state]).args(args);
        command
    }

    /// Id of its first process, as this machine counts.
    fn process(&self) -> u32 {
        let text = run(&mut self.runc(&["state", &self.name]));
        let state: Value = serde_json::from_str(&text).unwrap();
        state["pid"].as_u64().and_then(|process| process.try_into().ok()).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.runc(&["delete", "--force", &self.name]).output();
        let _ = self.runtime.wait();
    }
}

#[test]
fn the_image_is_small_and_runs_read_only_without_a_privilege() {
    let image = Image::build();
    let program = fs::read(&image.program).unwrap();
    assert!(program.len() as u64 <= SIZE_MAX_BYTES, "the static program has {} bytes", program.len());
    let has = |part: &[u8]| program.windows(part.len()).any(|window| window == part);
    assert!(has(b"ISRG Root X1") && has(b"GlobalSign"), "CA roots are inside");

    let config = image.config();
    assert_eq!(config["User"], "65532:65532");
    let check = config["Healthcheck"]["Test"].as_array().unwrap();
    assert_eq!(check[0], "CMD", "there is no shell");
    let check: Vec<_> = check[1..].iter().filter_map(Value::as_str).collect();

    let demo = image.container("demo", &["demo", "--log.level=info"], &[], None);
    demo.stdout.wait_for("metrics");
    demo.stderr.wait_for(messages::FIRST_POLL_GOOD);
    let files = run(Command::new("find").args([&image.path("demo/rootfs"), "-type", "f"]));
    assert_eq!(files.lines().count(), 2, "the program, and a place for the name servers: {files}");

    // What an engine does to know its health.
    let healthy = run(demo.runc(&["exec", &demo.name]).args(&check));
    assert_eq!(healthy, "healthy: all pollers are running\n");

    // From outside this container: its addresses are those of its network, and not loopback alone.
    let process = demo.process().to_string();
    let request =
        "exec 3<>/dev/tcp/127.0.0.1/10770 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    until("a balance is scraped", || {
        let metrics = run(as_root("nsenter").args(["--net", "--target", &process, "bash", "-c", request]));
        metrics.contains("\nxt_balance_free{account=\"market-maker\"").then_some(())
    });
    let sockets = run(as_root("cat").arg(format!("/proc/{process}/net/tcp")))
        + &run(as_root("cat").arg(format!("/proc/{process}/net/tcp6")));
    // Port 10770 on every address, of either family.
    assert!(
        sockets.contains(&format!(" {:032X}:{:04X} ", 0, 10770))
            || sockets.contains(&format!(" {:08X}:{:04X} ", 0, 10770)),
        "{sockets}"
    );

    let facts = run(as_root("cat").arg(format!("/proc/{process}/status")));
    for fact in ["Uid:\t65532\t", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
    run(&mut demo.runc(&["kill", &demo.name, "TERM"]));
    demo.stderr.wait_for(messages::SHUTTING_DOWN);
    until("it has ended", || (!Path::new(&format!("/proc/{process}")).exists()).then_some(()));

    // Names are found, and not found, without a file of a system but the engine's list of name servers.
    let mut network = as_root("unshare");
    let network =
        network.args(["--net", "bash", "-c", "ip link set lo up && exec python3 -c \"$0\"", NAME_SERVER]);
    let mut network = network.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let listening = Lines::read_from(network.stdout.take().unwrap()).wait_for("listening as ");
    let process = listening.rsplit(' ').next().unwrap();
    let keys = ["XT_ACCESS_KEY=access-key-of-nobody", "XT_SECRET_KEY=secret-key-of-nobody"];
    for (place, name, reason) in [(0, "exchange.test", "[connect]"), (1, "nowhere.test", "[dns]")] {
        let args = ["check", "--xt.base-url", &format!("https://{name}:1")];
        let check = image.container(&format!("check-{place}"), &args, &keys, Some(process));
        let line = check.stdout.wait_for("FAIL");
        assert!(line.contains(reason), "{line}");
    }
    run(as_root("kill").arg(process));
    network.wait().unwrap();
}
