//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Names: what watched containers ask name servers, how long the answers take, and what they say.
//
// Hooks: cgroup_skb egress and ingress of the instance's cgroup, attached only when asked for: they see packets of containers'
// sockets alone, each once, however it goes on, so a question to the embedded resolver (whose address was changed before) and
// one to any other server look alike. Cost: for every packet of a container a look at its protocol, for datagrams at
// their ports, for TCP at the port of the socket's other end. The owner is that of the socket's cgroup. Nothing is changed or dropped.
// Not seen: DNS over TLS or HTTPS, ports other than 53, packet sockets, IPv6 with extension headers, IPv4
// answers in fragments beyond the first, what a container answers as a server; of TCP, connections that were there before, and
// what dnsstream.h cannot tell apart.
#include "dnsstream.h"

char __license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct streams);
} connections SEC(".maps");

// segment follows connections that the container opened to the service; the first packet of one makes its storage.
static __always_inline void segment(struct __sk_buff *skb, u32 at, struct waiting_key *key, bool out)
{
	struct bpf_sock *sk = skb->sk;
	struct streams *both;
	u64 owner;
	u8 flags;

	if (!sk || sk->dst_port != NAME_SERVICE)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk || bpf_skb_load_bytes(skb, at + 13, &flags, sizeof(flags)))
		return;
	owner = owner_of_packet(skb);
	if (!owner)
		return;
	key->cookie = bpf_get_socket_cookie(skb);
	both = bpf_sk_storage_get(&connections, sk, 0, out && flags & TCP_SYN ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (both)
		follow(skb, at, both, key, out, owner);
	else if (out && flags & TCP_SYN)
		COUNT_OF(owner, unfollowed); // no memory
}

static __always_inline void packet(struct __sk_buff *skb, bool out)
{
	struct waiting_key key = {};
	u8 protocol;
	u32 at = transport_at(skb, out, 1, key.server, &protocol);

	if (!at)
		return;
	if (protocol == IPPROTO_UDP) {
		at = message_in(skb, at, out);
		if (!at)
			return;
		key.cookie = bpf_get_socket_cookie(skb);
		take(skb, at, &key, out, owner_of_packet(skb));
		return;
	}
	segment(skb, at, &key, out);
}

SEC("cgroup_skb/egress")
int names_egress(struct __sk_buff *skb)
{
	packet(skb, 1);
	return 1;
}

SEC("cgroup_skb/ingress")
int names_ingress(struct __sk_buff *skb)
{
	packet(skb, 0);
	return 1;
}
