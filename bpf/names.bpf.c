//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Names: what watched containers ask name servers by UDP, how long the answers take, and what they say.
//
// Hooks: cgroup_skb egress and ingress of the instance's cgroup, attached only when asked for: they see packets of containers'
// sockets alone, each once, however it goes on, so a question to the embedded resolver (whose address was changed before) and
// one to any other server look alike. Cost: for every packet of a container a look at its protocol, for datagrams at
// their ports. The owner is that of the socket's cgroup. Nothing is changed or dropped.
// Not seen: TCP (nor DNS over TLS or HTTPS), ports other than 53, packet sockets, IPv6 with extension headers, IPv4
// answers in fragments beyond the first, what a container answers as a server.
#include "datagram.h"

char __license[] SEC("license") = "GPL";

static __always_inline void datagram(struct __sk_buff *skb, bool out)
{
	struct waiting_key key = {};
	u32 at = message_at(skb, out, &key);

	if (!at)
		return;
	key.cookie = bpf_get_socket_cookie(skb);
	take(skb, at, &key, out, owner_of_packet(skb));
}

SEC("cgroup_skb/egress")
int names_egress(struct __sk_buff *skb)
{
	datagram(skb, 1);
	return 1;
}

SEC("cgroup_skb/ingress")
int names_ingress(struct __sk_buff *skb)
{
	datagram(skb, 0);
	return 1;
}
