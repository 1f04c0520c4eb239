//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// The embedded resolver's address: what a container sends to 127.0.0.11:53 goes to the resolver on its network's gateway,
// and what comes from there seems to come from 127.0.0.11:53.
//
// Hooks: cgroup sock_addr connect4, sendmsg4, recvmsg4, getpeername4, attached once to the instance's cgroup; pinned with
// the map, so they go on while no daemon lives. Cost: one comparison per call, one hash lookup for the resolver's
// address. Not seen: raw and packet sockets, processes outside the instance's cgroup. Entries are made and deleted by
// user space, one for each network namespace with networks of users.
#include "core.h"
#include <bpf/bpf_endian.h>

char __license[] SEC("license") = "GPL";

#define EMBEDDED_IP bpf_htonl(0x7f00000b) // 127.0.0.11
#define EMBEDDED_PORT bpf_htons(53)

struct resolver {
	u32 ip;   // network byte order
	u32 port; // network byte order, in the lower half, as in struct bpf_sock_addr
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); // four times the containers that an instance can have
	__type(key, u64);          // cookie of a network namespace
	__type(value, struct resolver);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} resolvers SEC(".maps");

static __always_inline int to_resolver(struct bpf_sock_addr *ctx)
{
	u64 cookie;
	struct resolver *r;

	if (ctx->user_ip4 != EMBEDDED_IP || ctx->user_port != EMBEDDED_PORT)
		return 1;
	cookie = bpf_get_netns_cookie(ctx);
	r = bpf_map_lookup_elem(&resolvers, &cookie);
	if (r) {
		ctx->user_ip4 = r->ip;
		ctx->user_port = r->port;
	}
	return 1;
}

static __always_inline int from_resolver(struct bpf_sock_addr *ctx)
{
	u64 cookie = bpf_get_netns_cookie(ctx);
	struct resolver *r = bpf_map_lookup_elem(&resolvers, &cookie);

	if (r && ctx->user_ip4 == r->ip && ctx->user_port == r->port) {
		ctx->user_ip4 = EMBEDDED_IP;
		ctx->user_port = EMBEDDED_PORT;
	}
	return 1;
}

SEC("cgroup/connect4")
int resolver_connect(struct bpf_sock_addr *ctx)
{
	return to_resolver(ctx);
}

SEC("cgroup/sendmsg4")
int resolver_sendmsg(struct bpf_sock_addr *ctx)
{
	return to_resolver(ctx);
}

SEC("cgroup/recvmsg4")
int resolver_recvmsg(struct bpf_sock_addr *ctx)
{
	return from_resolver(ctx);
}

SEC("cgroup/getpeername4")
int resolver_getpeername(struct bpf_sock_addr *ctx)
{
	return from_resolver(ctx);
}
