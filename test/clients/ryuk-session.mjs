// Starts two containers and a network, says which, and waits to be killed.
import { GenericContainer, Network, getContainerRuntimeClient } from "testcontainers";

const network = await new Network().start();
const start = () => new GenericContainer("busybox").withCommand(["sleep", "1000"]).withNetwork(network).start();
const containers = [await start(), await start()];
const { container } = await getContainerRuntimeClient();
const { Config } = await container.dockerode.getContainer(containers[0].getId()).inspect();
console.log(JSON.stringify({ session: Config.Labels["org.testcontainers.session-id"], network: network.getId(), containers: containers.map((c) => c.getId()) }));
setInterval(() => {}, 1000);
