// testcontainers with a reaper (RYUK_CONTAINER_IMAGE, a stand-in): what a process leaves when it dies is removed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import test from "node:test";
import Docker from "dockerode";

const docker = new Docker();

/** Polls until `cond` holds. */
async function eventually(what, cond) {
  for (const end = Date.now() + 60_000; !(await cond()); await new Promise((r) => setTimeout(r, 100))) {
    assert.ok(Date.now() < end, `still not: ${what}`);
  }
}

test("the reaper removes what a killed process left, and then itself", async () => {
  const child = spawn(process.execPath, [new URL("ryuk-session.mjs", import.meta.url).pathname], { stdio: ["ignore", "pipe", "inherit"] });
  let said;
  for await (const line of createInterface(child.stdout)) {
    said = JSON.parse(line);
    break;
  }
  assert.ok(said, "the process started nothing");
  const ofSession = async () => (await docker.listContainers({ all: true, filters: { label: [`org.testcontainers.session-id=${said.session}`] } })).map((c) => c.Id);
  const reaper = (await docker.getContainer(`testcontainers-ryuk-${said.session}`).inspect()).Id;
  assert.deepEqual((await ofSession()).sort(), [...said.containers, reaper].sort());
  const bystander = await docker.createContainer({ Image: "busybox", Cmd: ["true"] });

  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  await eventually("the session's containers are gone", async () => !(await ofSession()).some((id) => id !== reaper));
  await eventually("the reaper is gone", async () => (await ofSession()).length === 0);
  await assert.rejects(docker.getNetwork(said.network).inspect(), { statusCode: 404 });
  await bystander.remove(); // it had another label, none
});
