// testcontainers does its real work against the engine that DOCKER_HOST names, without its reaper; the image busybox is there.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import test, { after } from "node:test";

process.env.TESTCONTAINERS_RYUK_DISABLED = "true";
const { GenericContainer, Network, Wait, getContainerRuntimeClient } = await import("testcontainers");

const label = `testcontainers-${process.pid}`;

// What a failed test left.
after(async () => {
  const { container, network } = await getContainerRuntimeClient();
  for (const c of await container.dockerode.listContainers({ all: true, filters: { label: [label] } })) {
    await container.dockerode.getContainer(c.Id).remove({ force: true, v: true });
  }
  for (const n of await network.dockerode.listNetworks()) if (networks.has(n.Id)) await network.dockerode.getNetwork(n.Id).remove();
});
const networks = new Set();

/** A container of busybox to build on. */
const busybox = (...cmd) => new GenericContainer("busybox").withLabels({ [label]: "" }).withCommand(["sh", "-c", cmd.join("; ")]).withStartupTimeout(60_000);

/** Serves a page on port 8080, after a moment in which nothing listens. */
const served = (text = "served") => busybox("mkdir /www", `echo ${text} >/www/index.html`, "sleep 0.3", "exec httpd -f -p 8080 -h /www").withExposedPorts(8080);

const page = async (c) => (await fetch(`http://${c.getHost()}:${c.getMappedPort(8080)}/`)).text();

test("waits for the port, and the mapped port serves", async () => {
  const c = await served().start();
  assert.equal(await page(c), "served\n");
  assert.match(c.getId(), /^[0-9a-f]{64}$/);
  await c.stop();
  await assert.rejects(page(c));
});

test("waits for HTTP", async () => {
  const c = await served("http").withWaitStrategy(Wait.forHttp("/", 8080).forStatusCode(200).forResponsePredicate((body) => body === "http\n")).start();
  assert.equal(await page(c), "http\n");
  await c.stop();
});

test("waits for lines of the log, and streams it", async () => {
  const c = await busybox("sleep 0.2", "echo one", "echo ready >&2", "echo one", "exec sleep 1000").withWaitStrategy(Wait.forLogMessage("one", 2)).start();
  let seen = "";
  const alive = setInterval(() => {}, 1000); // while only this stream is open node would end: testcontainers unrefs its socket
  try {
    for await (const chunk of await c.logs()) if ((seen += chunk).split("\n").length > 3) break;
  } finally {
    clearInterval(alive);
  }
  assert.deepEqual(seen.trim().split("\n").sort(), ["one", "one", "ready"]);
  await c.stop();
});

test("waits for health", async () => {
  const c = await busybox("sleep 0.3", "touch /tmp/ok", "exec sleep 1000")
    .withHealthCheck({ test: ["CMD-SHELL", "test -e /tmp/ok"], interval: 100, timeout: 5000, retries: 100, startPeriod: 0 })
    .withWaitStrategy(Wait.forHealthCheck()).start();
  assert.equal((await c.exec(["test", "-e", "/tmp/ok"])).exitCode, 0);
  await c.stop();
});

test("waits for a command, for all of several, and for one that ends", async () => {
  const both = Wait.forAll([Wait.forSuccessfulCommand("test -e /tmp/ok"), Wait.forLogMessage(/re.dy/)]);
  const c = await busybox("sleep 0.2", "touch /tmp/ok", "echo ready", "exec sleep 1000").withWaitStrategy(both).start();
  await c.stop();
  const once = await busybox("exit 0").withWaitStrategy(Wait.forOneShotStartup()).start();
  await once.stop();
  await assert.rejects(busybox("exit 9").withWaitStrategy(Wait.forOneShotStartup()).start(), /failed to start/);
});

test("a wait that fails says so and removes the container", async () => {
  const hopeless = busybox("echo something else", "exec sleep 1000").withWaitStrategy(Wait.forLogMessage("never")).withStartupTimeout(500).withLabels({ [label]: "", [`${label}-hopeless`]: "" });
  await assert.rejects(hopeless.start(), /"never" not received after 500ms/);
  const { container } = await getContainerRuntimeClient();
  assert.deepEqual(await container.dockerode.listContainers({ all: true, filters: { label: [`${label}-hopeless`] } }), []);
});

test("exec has output, exit code, user, directory and environment", async () => {
  const c = await busybox("exec sleep 1000").start();
  const res = await c.exec(["sh", "-c", "echo out $(id -u) $PWD $WORD; echo err >&2; exit 3"], { user: "1000", workingDir: "/tmp", env: { WORD: "env" } });
  assert.equal(res.exitCode, 3);
  assert.equal(res.stdout, "out 1000 /tmp env\n");
  assert.equal(res.stderr, "err\n");
  await c.stop();
});

test("content, files, directories and archives are copied in, and out", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "clients-"));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "file"), "a file\n");
  const c = await busybox("cat /in/content /in/file /in/dir/file", "exec sleep 1000")
    .withCopyContentToContainer([{ content: "content\n", target: "/in/content", mode: 0o600 }])
    .withCopyFilesToContainer([{ source: join(dir, "file"), target: "/in/file" }])
    .withCopyDirectoriesToContainer([{ source: dir, target: "/in/dir" }])
    .withWaitStrategy(Wait.forLogMessage("content")).start();
  assert.equal((await c.exec(["cat", "/in/content", "/in/file", "/in/dir/file"])).output, "content\na file\na file\n");
  assert.match((await c.exec(["stat", "-c", "%a", "/in/content"])).output, /^600/);
  await c.copyContentToContainer([{ content: Readable.from(["later"]).read().toString(), target: "/tmp/later" }]);
  const archive = await buffer(await c.copyArchiveFromContainer("/tmp/later"));
  assert.ok(archive.includes("later"));
  await c.copyArchiveToContainer(Readable.from([archive]), "/in");
  assert.equal((await c.exec(["cat", "/in/later"])).output, "later");
  await c.stop();
});

test("networks have aliases, and environment, user, tmpfs, limits and hosts arrive", async () => {
  const network = await new Network().start();
  networks.add(network.getId());
  const server = await served("aliased").withNetwork(network).withNetworkAliases("web", "www").start();
  const client = await busybox("exec sleep 1000").withNetwork(network).withEnvironment({ WORD: "word" }).withUser("1000").withWorkingDir("/tmp")
    .withTmpFs({ "/scratch": "rw,mode=1777,size=1m" }).withResourcesQuota({ memory: 0.125, cpu: 0.5 }).withExtraHosts([{ host: "elsewhere", ipAddress: "192.0.2.1" }])
    .withUlimits({ nofile: { hard: 200, soft: 100 } }).withSharedMemorySize(1 << 20).start();
  for (const name of ["web", "www", server.getName().replace("/", "")]) {
    assert.equal((await client.exec(["wget", "-qO-", `http://${name}:8080/`])).output, "aliased\n");
  }
  const said = await client.exec(["sh", "-c", "id -u; pwd; echo $WORD; ulimit -n; grep elsewhere /etc/hosts | tr '\\t' ' '; touch /scratch/x && grep -c ' /scratch tmpfs' /proc/mounts"]);
  assert.equal(said.output, "1000\n/tmp\nword\n100\n192.0.2.1 elsewhere\n1\n");
  assert.match(server.getIpAddress(network.getName()), /^\d+\.\d+\.\d+\.\d+$/);
  await Promise.all([server.stop(), client.stop()]);
  await network.stop();
  networks.clear();
});

test("restart keeps the container, and its mapped port serves again", async () => {
  const c = await served("again").start();
  const id = c.getId();
  await c.restart();
  assert.equal(c.getId(), id);
  assert.equal(await page(c), "again\n");
  const stopped = await c.stop({ remove: false });
  const archive = await buffer(await stopped.copyArchiveFromContainer("/www/index.html"));
  assert.ok(archive.includes("again\n"));
});

test("a reused container is the same", async () => {
  const definition = () => busybox("exec sleep 1000").withReuse();
  const first = await definition().start();
  const second = await definition().start();
  assert.equal(second.getId(), first.getId());
  await first.stop({ remove: true });
});

test("commit makes an image that starts", async () => {
  const c = await busybox("exec sleep 1000").start();
  await c.exec(["sh", "-c", "echo committed >/made"]);
  const name = `${label}:made`;
  await c.commit({ repo: label, tag: "made", deleteOnExit: false });
  const again = await new GenericContainer(name).withLabels({ [label]: "" }).withCommand(["sleep", "1000"]).start();
  assert.equal((await again.exec(["cat", "/made"])).output, "committed\n");
  await Promise.all([c.stop(), again.stop()]);
  const { image } = await getContainerRuntimeClient();
  await image.dockerode.getImage(name).remove({ force: true });
});

test("an image that is not there is an error", async () => {
  await assert.rejects(new GenericContainer("127.0.0.1:1/none:here").start(), /none|refused|No such image/);
});
