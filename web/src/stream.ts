// Answers that are JSON objects, a line each, for as long as somebody looks: what the daemon does for them ends with the request.
import { signal, type Signal } from '@preact/signals'

/** Why a question was not understood: what, and where in it, in bytes. */
export interface Mistake { message: string; in?: string; at?: number; what?: string }

export type Phase =
  | { kind: 'off' }
  | { kind: 'asking' }
  | { kind: 'live' }
  | { kind: 'resting' } // nobody looks at this page
  | { kind: 'waiting'; until: number }
  | { kind: 'refused'; mistake: Mistake }
  | { kind: 'over'; why: string; failed: boolean }

const RETRY_FIRST = 500
const RETRY_MOST = 10_000
/** A hidden page stops asking after this, ms. */
const HIDE_AFTER = 10_000

/** Cuts what comes into lines; the last one may lack its end. */
export class Lines {
  private left = ''
  private decoder = new TextDecoder()
  push(bytes: Uint8Array): string[] {
    const parts = (this.left + this.decoder.decode(bytes, { stream: true })).split('\n')
    this.left = parts.pop()!
    return parts.filter((l) => l)
  }
}

interface End { ended?: string; failed?: boolean }

/** Asks until it is stopped, again when the connection is lost, and not while the page is hidden. begin is called for each time. */
export class Stream<T extends End> {
  readonly phase: Signal<Phase> = signal<Phase>({ kind: 'off' })
  private control: AbortController | undefined
  private path = ''
  private retry = RETRY_FIRST
  private timer = 0
  private hidden = 0

  constructor(private line: (v: T) => void, private begin: () => void) {}

  start(path: string): void {
    this.stop()
    this.path = path
    this.retry = RETRY_FIRST
    document.addEventListener('visibilitychange', this.look)
    void this.run()
  }

  stop(): void {
    document.removeEventListener('visibilitychange', this.look)
    this.halt()
    this.phase.value = { kind: 'off' }
  }

  private halt(): void {
    clearTimeout(this.timer)
    clearTimeout(this.hidden)
    this.control?.abort()
    this.control = undefined
  }

  private look = (): void => {
    clearTimeout(this.hidden)
    if (document.hidden) {
      this.hidden = window.setTimeout(() => {
        if (this.phase.value.kind === 'refused' || this.phase.value.kind === 'over') return
        this.halt()
        this.phase.value = { kind: 'resting' }
      }, HIDE_AFTER)
    } else if (this.phase.value.kind === 'resting') {
      void this.run()
    }
  }

  private async run(): Promise<void> {
    const control = new AbortController()
    this.control = control
    this.phase.value = { kind: 'asking' }
    const phase = await this.read(control.signal).catch((): Phase => ({ kind: 'waiting', until: 0 }))
    if (this.control !== control) return // stopped, or asked anew
    if (phase.kind === 'waiting') {
      this.phase.value = { kind: 'waiting', until: Date.now() + this.retry }
      this.timer = window.setTimeout(() => void this.run(), this.retry)
      this.retry = Math.min(this.retry * 2, RETRY_MOST)
      return
    }
    this.phase.value = phase
  }

  /** Reads to the end, which is what it returns. */
  private async read(abort: AbortSignal): Promise<Phase> {
    const r = await fetch(this.path, { credentials: 'same-origin', headers: { Accept: 'application/x-ndjson' }, signal: abort })
    if (!r.ok || !r.body) {
      const body: unknown = await r.json().catch(() => null)
      const mistake = body && typeof body === 'object' && 'message' in body ? body as Mistake : { message: `the server answered ${r.status}` }
      return { kind: 'refused', mistake }
    }
    this.begin()
    this.phase.value = { kind: 'live' }
    const reader = r.body.getReader(), lines = new Lines()
    for (;;) {
      const { done, value } = await reader.read()
      if (abort.aborted) return { kind: 'off' }
      if (done) return { kind: 'waiting', until: 0 } // without an end: the daemon went away
      this.retry = RETRY_FIRST
      for (const text of lines.push(value)) {
        const v = JSON.parse(text) as T
        if (v.ended) return { kind: 'over', why: v.ended, failed: v.failed ?? false }
        this.line(v)
      }
    }
  }
}
