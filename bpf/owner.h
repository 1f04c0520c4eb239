// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// How a cgroup finds the container that it belongs to.
#ifndef TRITON_OWNER_H
#define TRITON_OWNER_H

#include "core.h"

#define MAX_LEVEL 12 // depth to which a nested cgroup finds its container

// OWNER_IN gives the owner of a cgroup or of a watched ancestor by one hierarchy's map, outermost first: a container
// inside a container is part of the outer one. A macro, because a map cannot be an argument.
#define OWNER_IN(map, cg)                                                                        \
	({                                                                                       \
		struct cgroup *ancestor;                                                         \
		int level = BPF_CORE_READ(cg, level);                                            \
		u64 id, *owner = 0;                                                              \
		for (int i = 1; i <= MAX_LEVEL && i < level && !owner; i++) {                    \
			bpf_probe_read_kernel(&ancestor, sizeof(ancestor),                       \
					      __builtin_preserve_access_index(&(cg)->ancestors[0]) + i); \
			id = BPF_CORE_READ(ancestor, kn, id);                                    \
			owner = bpf_map_lookup_elem(&map, &id);                                  \
		}                                                                                \
		if (!owner) {                                                                    \
			id = BPF_CORE_READ(cg, kn, id);                                          \
			owner = bpf_map_lookup_elem(&map, &id);                                  \
		}                                                                                \
		owner ? *owner : 0;                                                              \
	})

#endif
