// The rows of the topic containers: numbers in typed arrays by row, five seconds of them for averages, a minute of CPU.
import { floats, HISTORY, RESYNC, rowMetas, rowNumbers, SNAPSHOT, TABLE_COLS, u16s, type RowMeta, type TableFrame } from './wire'

/** Ticks in the average that is shown and sorted by. */
const AVERAGE = 5
const UNKNOWN_CPU = 65535

export class Table {
  meta: (RowMeta | undefined)[] = []
  ready = false
  /** When the newest frame was made, ms by the server's clock. */
  time = 0
  private vals = new Float32Array(0)
  private recent = new Float32Array(0)
  private cpu = new Float32Array(0)
  private tick = 0 // places in the rings, the same for all rows
  private seq = 0

  get size(): number {
    let n = 0
    for (const m of this.meta) if (m) n++
    return n
  }

  apply(f: TableFrame): void {
    const metas = rowMetas(f.m)
    if (f.k === SNAPSHOT || f.k === RESYNC) this.begin(f, metas)
    for (const r of f.x ?? []) this.meta[r] = undefined
    for (const m of metas) {
      if (!this.meta[m.r]) this.blank(m.r)
      this.meta[m.r] = m
    }
    const rows = rowNumbers(f.r, f.n)
    f.c.forEach((col, i) => {
      const v = floats(col)
      for (let k = 0; k < rows.length; k++) this.vals[rows[k]! * TABLE_COLS + i] = v[k]!
    })
    if (f.k === SNAPSHOT && f.h) this.fillHistory(f.h, rows)
    this.push()
    this.seq = f.s
    this.time = f.t
    this.ready = true
  }

  /** A whole state replaces all rows. Without history, ours stays, with a hole where frames were lost. */
  private begin(f: TableFrame, metas: RowMeta[]): void {
    const keep = new Map(metas.map((m) => [m.r, m.id]))
    this.meta.forEach((m, r) => {
      if (m && (f.k === SNAPSHOT || keep.get(r) !== m.id)) this.meta[r] = undefined
    })
    if (f.k === RESYNC) {
      for (let lost = Math.min(f.s - this.seq - 1, HISTORY); lost > 0; lost--) this.push(true)
    }
  }

  private fillHistory(h: Uint8Array, rows: Uint16Array | Uint32Array): void {
    const all = u16s(h)
    for (let k = 0; k < rows.length; k++) {
      for (let i = 0; i < HISTORY; i++) {
        const v = all[k * HISTORY + i]!
        // Its last value is now, which push writes once more in the same place.
        this.cpu[rows[k]! * HISTORY + ((this.tick + 1 + i) % HISTORY)] = v === UNKNOWN_CPU ? NaN : v / 1000
      }
    }
  }

  /** Moves the rings on by one tick of what is known now, or of nothing. */
  private push(hole = false): void {
    const a = this.tick % AVERAGE, h = this.tick % HISTORY
    for (let r = 0; r < this.meta.length; r++) {
      for (let c = 0; c < TABLE_COLS; c++) {
        this.recent[(r * AVERAGE + a) * TABLE_COLS + c] = hole ? NaN : this.vals[r * TABLE_COLS + c]!
      }
      this.cpu[r * HISTORY + h] = hole ? NaN : this.vals[r * TABLE_COLS]!
    }
    this.tick++
  }

  private blank(r: number): void {
    const n = Math.max(r + 1, 16)
    if (this.vals.length < n * TABLE_COLS) {
      const grow = (old: Float32Array, per: number): Float32Array<ArrayBuffer> => {
        const next = new Float32Array(2 * n * per).fill(NaN)
        next.set(old)
        return next
      }
      this.vals = grow(this.vals, TABLE_COLS)
      this.recent = grow(this.recent, TABLE_COLS * AVERAGE)
      this.cpu = grow(this.cpu, HISTORY)
    }
    this.vals.fill(NaN, r * TABLE_COLS, (r + 1) * TABLE_COLS)
    this.recent.fill(NaN, r * TABLE_COLS * AVERAGE, (r + 1) * TABLE_COLS * AVERAGE)
    this.cpu.fill(NaN, r * HISTORY, (r + 1) * HISTORY)
  }

  /** Mean of the last five ticks that are known; NaN: none is. */
  average(r: number, col: number): number {
    let sum = 0, n = 0
    if (Number.isNaN(this.vals[r * TABLE_COLS + col]!) && col !== 3 && col !== 4) return NaN
    for (let i = 0; i < AVERAGE; i++) {
      const v = this.recent[(r * AVERAGE + i) * TABLE_COLS + col]!
      if (!Number.isNaN(v)) {
        sum += v
        n++
      }
    }
    return n ? sum / n : NaN
  }

  /** CPU i ticks after the oldest kept, 0 to HISTORY-1. */
  history(r: number, i: number): number {
    return this.cpu[r * HISTORY + ((this.tick + i) % HISTORY)]!
  }
}
