// A live trace: its lines, and how it is asked for.
export interface TraceEvent {
  pid?: number; tid?: number; comm?: string; at?: string; text?: string; result?: number; error?: string; duration?: number; inCall?: boolean
  lost?: number; ended?: string; failed?: boolean
}
/** Lines that are kept. */
export const TRACE_LINES = 500

export interface TraceLine { n: number; e: TraceEvent }

/** The last lines, with how many there were and how many were lost. */
export class Trace {
  lines: TraceLine[] = []
  calls = 0
  lost = 0
  private seconds: number[] = []
  apply(e: TraceEvent, now: number): void {
    const last = this.lines.at(-1)
    if (e.lost) {
      this.lost += e.lost
      if (last?.e.lost) {
        last.e = { lost: last.e.lost + e.lost }
        return
      }
    } else {
      this.calls++
      this.seconds.push(now)
    }
    this.lines.push({ n: (last?.n ?? 0) + 1, e })
    if (this.lines.length > TRACE_LINES) this.lines.splice(0, this.lines.length - TRACE_LINES)
    if (this.seconds.length > 20_000) this.seconds.splice(0, 10_000)
  }
  /** Calls that were told of in the last two seconds, a second. */
  rate(now: number): number {
    while (this.seconds.length && this.seconds[0]! < now - 2000) this.seconds.shift()
    return this.seconds.length / 2
  }
}

/** The path of a trace; patterns may have commas between them. */
export function tracePath(id: string, f: { sys: string; slower: string; comm: string; errors: boolean; memory: boolean }): string {
  const q = new URLSearchParams()
  for (const p of f.sys.split(',').map((s) => s.trim()).filter((s) => s)) q.append('syscall', p)
  if (f.slower) q.set('slower', f.slower)
  if (f.comm) q.set('comm', f.comm)
  if (f.errors) q.set('errors', 'true')
  if (f.memory) q.set('memory', 'true')
  return `/triton/v1/containers/${encodeURIComponent(id)}/trace?${q}`
}
