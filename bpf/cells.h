// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
//
// Cells: where a system call of a container is counted. A call gets its cell from the pool when it is first made.
#ifndef TRITON_CELLS_H
#define TRITON_CELLS_H

#include "slots.h"

// take_cell gives call nr of a slot a cell of the pool, or the slot's shared cell when the pool is empty.
static __noinline u32 take_cell(struct slot *slot, u32 shared, u32 nr)
{
	u32 cell, old;

	if (bpf_map_pop_elem(&free_cells, &cell)) {
		if (fresh_cells >= cell_limit)
			goto empty;
		cell = __sync_fetch_and_add(&fresh_cells, 1);
		if (cell >= cell_limit)
			goto empty;
	}
	old = __sync_val_compare_and_swap(&slot->cells[nr & (SYSCALLS - 1)], 0, cell);
	if (!old)
		return cell;
	bpf_map_push_elem(&free_cells, &cell, BPF_ANY); // cannot fail: the stack has room for every cell
	return old;
empty:
	__sync_fetch_and_add(&slot->drop_cells, 1);
	return shared;
}

static __always_inline struct cell *cell_of(struct slot *slot, u32 shared, u32 nr)
{
	u32 cell = slot->cells[nr & (SYSCALLS - 1)];

	if (!cell)
		cell = take_cell(slot, shared, nr);
	return bpf_map_lookup_elem(&cells, &cell);
}

#endif
