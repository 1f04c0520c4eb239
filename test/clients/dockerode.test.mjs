// dockerode does its real work against the engine that DOCKER_HOST names; the images busybox and true are there.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import test, { after } from "node:test";
import { buffer, text } from "node:stream/consumers";
import Docker from "dockerode";
import tar from "tar-stream";

const docker = new Docker(); // from DOCKER_HOST
const label = `clients-${process.pid}`;

// What a failed test left.
after(async () => {
  const filters = { label: [label] };
  for (const c of await docker.listContainers({ all: true, filters })) await docker.getContainer(c.Id).remove({ force: true, v: true });
  for (const n of await docker.listNetworks({ filters })) await docker.getNetwork(n.Id).remove();
  for (const v of (await docker.listVolumes({ filters })).Volumes ?? []) await docker.getVolume(v.Name).remove();
});

/** Creates a container of busybox. */
function create(cmd, options = {}) {
  return docker.createContainer({ Image: "busybox", Cmd: cmd, Labels: { [label]: "" }, ...options });
}

/** Creates and starts one that lives until it is removed. */
async function living(options = {}) {
  const c = await create(["sleep", "1000"], options);
  await c.start();
  return c;
}

/** Both streams of a multiplexed stream, as they are at its end. */
async function demuxed(stream) {
  const out = new PassThrough();
  const err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => { out.end(); err.end(); });
  return { out: await text(out), err: await text(err) };
}

/** Waits until a stream has given this text: `run` tells of the end of the container, not of that of its output. */
async function gives(stream, want) {
  let got = "";
  for await (const chunk of stream) if ((got += chunk).length >= want.length) break;
  assert.equal(got, want);
}

/** The first object of a stream of JSON lines for which `wanted` holds. */
async function firstLine(stream, wanted) {
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    const found = lines.filter(Boolean).map((l) => JSON.parse(l)).find(wanted);
    if (found) return found;
  }
  throw new Error(`the stream ended after ${rest}`);
}

/** An archive with one file, as a stream. */
function archiveOf(name, content, mode) {
  const pack = tar.pack();
  pack.entry({ name, mode }, content);
  pack.finalize();
  return pack;
}

/** What is in an archive: names, and contents of files. */
async function filesOf(stream) {
  const files = {};
  const extract = tar.extract();
  extract.on("entry", (header, body, next) => {
    buffer(body).then((b) => { files[header.name] = { type: header.type, mode: header.mode, text: b.toString() }; next(); });
  });
  await pipeline(stream, extract);
  return files;
}

/** A request that must be refused, with a status and words of the engine. */
async function refused(promise, status, message) {
  const err = await promise.then(() => assert.fail("was not refused"), (e) => e);
  assert.equal(err.statusCode, status, err.message);
  assert.match(err.message.replace(/^\(HTTP code \d+\) .*? - /, "").trim(), message);
}

test("ping, version and info", async () => {
  assert.equal((await docker.ping()).toString(), "OK");
  const version = await docker.version();
  assert.match(version.ApiVersion, /^1\.\d+$/);
  assert.ok(version.Components.length > 0);
  const info = await docker.info();
  assert.equal(info.OSType, "linux");
  assert.ok(info.NCPU > 0 && info.MemTotal > 0);
});

test("images are loaded, inspected, tagged and removed", async () => {
  const said = await text(await docker.loadImage(createReadStream(process.env.CLIENTS_TRUE_TAR)));
  assert.match(said, /Loaded image: true:latest/);
  const image = docker.getImage("true");
  const { Id, Architecture, Size } = await image.inspect();
  assert.match(Id, /^sha256:[0-9a-f]{64}$/);
  assert.ok(Architecture && Size > 0);
  await image.tag({ repo: label, tag: "one" });
  const listed = await docker.listImages({ filters: { reference: [`${label}:one`] } });
  assert.deepEqual(listed.map((i) => i.Id), [Id]);
  assert.deepEqual(await docker.getImage(`${label}:one`).remove(), [{ Untagged: `${label}:one` }]);
  assert.ok((await image.history()).length > 0);
});

test("an image is pulled, with its progress, and one that is not there is an error", async (t) => {
  const ref = `${process.env.CLIENTS_REGISTRY}/${label}:pulled`;
  await docker.getImage("true").tag({ repo: ref.replace(/:[^:]*$/, ""), tag: "pulled" });
  t.after(() => docker.getImage(ref).remove());
  const ended = (stream) => new Promise((resolve, reject) => docker.modem.followProgress(stream, (err, all) => (err ? reject(err) : resolve(all))));
  await ended(await docker.getImage(ref).push({ authconfig: {} }));
  await docker.getImage(ref).remove();
  const lines = await ended(await docker.pull(ref));
  assert.ok(lines.some((l) => l.status.startsWith("Digest: sha256:")), JSON.stringify(lines));
  assert.match(lines.at(-1).status, /Status: Downloaded newer image/);
  await assert.rejects(docker.pull(`${process.env.CLIENTS_REGISTRY}/none:here`).then(ended), /not found|unknown/);
});

test("attach separates the streams, and wait has the exit code", async () => {
  const c = await create(["sh", "-c", "read line; echo out $line; echo err >&2; exit 3"], { OpenStdin: true, StdinOnce: true });
  const stream = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const seen = demuxed(stream);
  await c.start();
  stream.end("hello\n");
  assert.deepEqual(await seen, { out: "out hello\n", err: "err\n" });
  assert.deepEqual((await c.wait()).StatusCode, 3);
  const { State } = await c.inspect();
  assert.deepEqual([State.Status, State.ExitCode], ["exited", 3]);
  await c.remove();
});

test("a terminal is one raw stream with a size", async () => {
  const c = await create(["sh", "-c", "read go; stty size"], { Tty: true, OpenStdin: true });
  const stream = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await c.start();
  await c.resize({ h: 33, w: 99 });
  stream.write("go\n");
  assert.equal(await text(stream), "go\r\n33 99\r\n");
  await c.remove({ force: true });
});

test("run does all in one", async () => {
  const out = new PassThrough();
  const err = new PassThrough();
  const [result, c] = await docker.run("busybox", ["sh", "-c", "echo o; echo e >&2; exit 5"], [out, err], { Tty: false, Labels: { [label]: "" } });
  assert.equal(result.StatusCode, 5);
  await gives(out, "o\n");
  await gives(err, "e\n");
  await c.remove();
});

test("exec has stdin with a half-close, streams and an exit code", async () => {
  const c = await living();
  const exec = await c.exec({ Cmd: ["sh", "-c", "cat; echo $WORD >&2; pwd; exit 7"], Env: ["WORD=env"], WorkingDir: "/tmp", AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const seen = demuxed(stream);
  stream.end("all of it\n");
  assert.deepEqual(await seen, { out: "all of it\n/tmp\n", err: "env\n" });
  const { ExitCode, Running } = await exec.inspect();
  assert.deepEqual([ExitCode, Running], [7, false]);
  await refused(exec.start({ Detach: true }), 409, /already/);
  await c.remove({ force: true });
});

test("logs follow until the end, and are cut by tail", async () => {
  const c = await create(["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.1; done; echo bad >&2"]);
  await c.start();
  const { out, err } = await demuxed(await c.logs({ follow: true, stdout: true, stderr: true }));
  assert.deepEqual([out, err], ["line 1\nline 2\nline 3\n", "bad\n"]);
  const last = await c.logs({ stdout: true, tail: 2, timestamps: true }); // of both streams
  assert.match(last.subarray(8).toString(), /^\d{4}-\d\d-\d\dT[\d:.]+Z line 3\n$/);
  await c.remove();
});

test("stats come once, and as a stream", async () => {
  const c = await living();
  const once = await c.stats({ stream: false });
  assert.equal(once.id, c.id);
  assert.ok(once.memory_stats.usage > 0 && once.cpu_stats.system_cpu_usage >= once.precpu_stats.system_cpu_usage);
  const stream = await c.stats({ stream: true });
  const second = await firstLine(stream, (s) => s.precpu_stats.system_cpu_usage > 0);
  assert.ok(second.pids_stats.current >= 1 && second.networks.eth0);
  stream.destroy();
  await c.remove({ force: true });
});

test("events are filtered, live and of the past", async () => {
  const since = Math.floor(Date.now() / 1000) - 1;
  const live = await docker.getEvents({ filters: { label: [label], event: ["die"] } });
  const died = firstLine(live, () => true);
  const c = await create(["sh", "-c", "exit 4"]);
  await c.start();
  const event = await died;
  live.destroy();
  assert.deepEqual([event.Type, event.Action, event.Actor.ID, event.Actor.Attributes.exitCode], ["container", "die", c.id, "4"]);
  await c.remove();
  const past = await docker.getEvents({ since, until: Math.ceil(Date.now() / 1000) + 1, filters: { container: [c.id] } });
  const actions = (await text(past)).trim().split("\n").map((l) => JSON.parse(l)).filter((e) => e.Type === "container").map((e) => e.Action);
  assert.deepEqual(actions, ["create", "start", "die", "destroy"]);
});

test("archives go in and out", async () => {
  const c = await living();
  await c.putArchive(archiveOf("note.txt", "from outside", 0o640), { path: "/tmp" });
  const files = await filesOf(await c.getArchive({ path: "/tmp/note.txt" }));
  assert.deepEqual(files, { "note.txt": { type: "file", mode: 0o640, text: "from outside" } });
  const stat = await c.infoArchive({ path: "/tmp/note.txt" });
  stat.resume(); // it has no body, but keeps its connection until somebody has read that
  const about = JSON.parse(Buffer.from(stat.headers["x-docker-container-path-stat"], "base64"));
  assert.deepEqual([about.name, about.size], ["note.txt", 12]);
  await refused(c.getArchive({ path: "/none" }), 404, /none/);
  await refused(c.putArchive(archiveOf("x", "x"), { path: "/none" }), 404, /none/);
  const changes = await c.changes();
  assert.ok(changes.some((x) => x.Path === "/tmp/note.txt" && x.Kind === 1), JSON.stringify(changes));
  assert.ok((await filesOf(await c.export()))["tmp/note.txt"]);
  await c.remove({ force: true });
});

test("wait for the removal of one that is killed", async () => {
  const c = await living({ HostConfig: { AutoRemove: true } });
  const removed = c.wait({ condition: "removed" });
  await c.kill({ signal: "SIGKILL" });
  assert.equal((await removed).StatusCode, 137);
  await refused(c.inspect(), 404, /^No such container: /);
});

test("pause, top, rename, update, restart and stop", async () => {
  const c = await living({ StopSignal: "SIGKILL" });
  await c.pause();
  assert.equal((await c.inspect()).State.Paused, true);
  await c.unpause();
  const { Titles, Processes } = await c.top({ ps_args: "-o pid,args" });
  assert.deepEqual(Titles, ["PID", "COMMAND"]);
  assert.match(Processes[0][1], /sleep 1000/);
  await c.rename({ name: `${label}-renamed` });
  await c.update({ Memory: 64 << 20, MemorySwap: 64 << 20 });
  const before = await c.inspect();
  assert.deepEqual([before.Name, before.HostConfig.Memory], [`/${label}-renamed`, 64 << 20]);
  await c.restart();
  const after = await c.inspect();
  assert.ok(after.State.Running && after.State.StartedAt > before.State.StartedAt);
  await c.stop();
  await refused(c.kill(), 409, /not running/);
  await assert.rejects(c.stop(), { statusCode: 304 });
  await c.remove();
});

test("containers are listed by filter, with ports and mounts", async () => {
  const c = await living({ ExposedPorts: { "80/tcp": {} }, HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }] }, Tmpfs: { "/scratch": "" } } });
  const listed = await docker.listContainers({ filters: { label: [label], status: ["running"], id: [c.id] } });
  assert.equal(listed.length, 1);
  const [{ Ports, State, Image, Command }] = listed;
  assert.deepEqual([State, Image, Command], ["running", "busybox", "sleep 1000"]);
  assert.equal(Ports.length, 1);
  assert.ok(Ports[0].PublicPort > 0 && Ports[0].PrivatePort === 80 && Ports[0].IP === "127.0.0.1" && Ports[0].Type === "tcp");
  await c.remove({ force: true });
  assert.deepEqual(await docker.listContainers({ all: true, filters: { id: [c.id] } }), []);
});

test("networks connect containers by name and alias", async () => {
  const network = await docker.createNetwork({ Name: `${label}-net`, Labels: { [label]: "" }, CheckDuplicate: true });
  await refused(docker.createNetwork({ Name: `${label}-net` }), 409, /already exists/);
  const server = await living({ name: `${label}-server` });
  await network.connect({ Container: server.id, EndpointConfig: { Aliases: ["served"] } });
  const found = await network.inspect();
  assert.deepEqual(Object.keys(found.Containers), [server.id]);
  const out = new PassThrough();
  const [{ StatusCode }, client] = await docker.run("busybox", ["sh", "-c", `ping -c1 -w9 served && ping -c1 -w9 ${label}-server`], out,
    { Tty: false, Labels: { [label]: "" }, HostConfig: { NetworkMode: `${label}-net` } });
  assert.equal(StatusCode, 0, String(out.read()));
  await client.remove();
  await refused(network.remove(), 403, /active endpoints/);
  await network.disconnect({ Container: server.id });
  await server.remove({ force: true });
  await network.remove();
  await refused(network.inspect(), 404, /not found/);
});

test("volumes outlive containers", async () => {
  const { name } = await docker.createVolume({ Name: `${label}-data`, Labels: { [label]: "" } });
  const volume = docker.getVolume(name);
  const HostConfig = { Binds: [`${name}:/data`] };
  for (const [cmd, want] of [["echo kept >/data/file", ""], ["cat /data/file", "kept\n"]]) {
    const out = new PassThrough();
    const [{ StatusCode }, c] = await docker.run("busybox", ["sh", "-c", cmd], [out, out], { Tty: false, Labels: { [label]: "" }, HostConfig });
    assert.equal(StatusCode, 0);
    if (want) await gives(out, want);
    if (want) await refused(volume.remove(), 409, /in use/);
    await c.remove();
  }
  assert.deepEqual((await docker.listVolumes({ filters: { name: [name] } })).Volumes.map((v) => v.Name), [name]);
  await volume.remove();
  await refused(volume.inspect(), 404, /no such volume/i);
});

test("commit makes an image", async () => {
  const c = await create(["sh", "-c", "echo made >/made"]);
  await c.start();
  await c.wait();
  const { Id } = await c.commit({ repo: `${label}-made`, tag: "1", comment: "by a test", changes: "CMD [\"cat\",\"/made\"]" });
  await c.remove();
  const image = docker.getImage(`${label}-made:1`);
  assert.equal((await image.inspect()).Id, Id);
  const out = new PassThrough();
  const [{ StatusCode }, again] = await docker.run(`${label}-made:1`, [], [out, out], { Tty: false, Labels: { [label]: "" } });
  assert.equal(StatusCode, 0);
  await gives(out, "made\n");
  await again.remove();
  await image.remove();
});

test("errors carry the engine's status and words", async () => {
  await refused(docker.getContainer("nope").inspect(), 404, /^No such container: nope$/);
  await refused(docker.createContainer({ Image: "none:here" }), 404, /^No such image: none:here$/);
  await refused(docker.createContainer({}), 400, /./);
  await refused(docker.getImage("none:here").inspect(), 404, /No such image: none:here/);
  const c = await living({ name: `${label}-taken` });
  await refused(create(["true"], { name: `${label}-taken` }), 409, new RegExp(`already in use by container "?${c.id}`));
  await refused(c.remove(), 409, /running/);
  await c.remove({ force: true });
  const lost = await create(["/no/such/program"]);
  await refused(lost.start(), 400, /no such file or directory/);
  await lost.remove();
  await refused(docker.listContainers({ filters: { bogus: ["x"] } }), 400, /invalid filter 'bogus'/);
  const gone = new Docker({ socketPath: "/nonexistent.sock" });
  await assert.rejects(gone.ping(), { code: "ENOENT" });
});
