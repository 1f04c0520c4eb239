// What the daemon is asked for again and again while somebody looks: counters since the container's start, of which the newest few
// readings are kept.
import { signal, type ReadonlySignal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { sum, type Counts } from './detail'
import { ask } from './dump'

/** triton.Histogram. */
export interface Histogram { schema: number; first: number; counts?: number[]; sumNs: number }

/** Readings of the last seconds, oldest first, which stay when no more come; problem is why, '' they come. */
export interface Readings<T> { all: T[]; problem: string }

/** Rates are of this long, ms. */
const RECENT = 5000
/** After a refusal it is asked again more seldom, ms: the container may start. */
const REFUSED = 5000

/** An answer that says when it was read. */
interface Reading { at?: string; last?: string }
const timeOf = (r: Reading): number => Date.parse(r.at ?? r.last ?? '')

/** Reads a path every so many ms while the view is there and the page is seen. each is told of two readings that follow one another. */
export function useReadings<T extends Reading>(path: string, every: number, each?: (before: T, now: T) => void): ReadonlySignal<Readings<T>> {
  const state = useMemo(() => signal<Readings<T>>({ all: [], problem: '' }), [path])
  useEffect(() => {
    let there = true, timer = 0
    const read = async (): Promise<void> => {
      const begun = performance.now()
      let wait = every
      if (!document.hidden) {
        const got = await ask<T>(path).catch((e: Error) => e)
        if (!there) return
        const { all } = state.peek()
        if (got instanceof Error) {
          state.value = { all, problem: got.message }
          wait = REFUSED
        } else {
          const last = all.at(-1)
          if (last) each?.(last, got)
          state.value = { all: [...all.filter((r) => between(r, got) * 1000 <= RECENT + every), got], problem: '' }
        }
      }
      timer = window.setTimeout(() => void read(), Math.max(0, wait - (performance.now() - begun)))
    }
    void read()
    return () => {
      there = false
      clearTimeout(timer)
    }
  }, [path])
  return state
}

/** Seconds between two readings. */
export const between = (before: Reading, now: Reading): number => (timeOf(now) - timeOf(before)) / 1000

/** What a counter gained; one that fell began anew, as all of a container do when it starts again. */
export const gained = (before: number | undefined, now: number): number => (before === undefined || now < before ? now : now - before)

export const countsOf = (h: Histogram): Counts => ({ schema: h.schema, first: h.first, n: Uint32Array.from(h.counts ?? []) })

/** What a histogram gained. */
export function since(before: Histogram | undefined, now: Histogram): Counts {
  const was = before?.counts ?? [], is = now.counts ?? []
  if (was.length !== is.length || is.some((n, i) => n < was[i]!)) return countsOf(now)
  return { schema: now.schema, first: now.first, n: Uint32Array.from(is, (n, i) => n - was[i]!) }
}

export const total = (c: Counts): number => c.n.reduce((a, n) => a + n, 0)

/** Mean in seconds; NaN: nothing was counted. */
export function mean(h: Histogram): number {
  const n = total(countsOf(h))
  return n ? h.sumNs / n / 1e9 : NaN
}

/** What a histogram gained between two readings, of which the later one was made at t, ms. */
export interface Gain { t: number; n: Counts }
/** Gains kept; the longest time axis. */
const GAINS = 600
/** Readings that are further apart, ms, have a hole between them. */
const HOLE = 3500

/** Adds what came between two readings, of one or more histograms of one kind. */
export function keepGain(gains: Gain[], before: Reading, now: Reading, parts: Counts[]): void {
  if (between(before, now) * 1000 > HOLE) return
  gains.push({ t: timeOf(now), n: parts.reduce((a, b) => sum(a, b), NOTHING) })
  if (gains.length > GAINS) gains.splice(0, gains.length - GAINS)
}
const NOTHING: Counts = { schema: 2, first: 0, n: new Uint32Array() }
