// Heatmaps of latency on one time axis. Each is an image of one pixel per cell that the browser scales.
import { signal, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { bound, quantile, toColumns, type Counts, type Second } from './detail'
import { clock, duration } from './format'
import { layOut } from './question'
import type { Gain } from './reading'
import { Refused } from './refused'
import { param, setParams } from './route'
import { theme } from './theme'

/** Rows are quarters of an octave, as the probes count a container: from 2^LOW seconds (0.24 µs) to 2^HIGH (16 s). */
const LOW = -22
const HIGH = 4
const SCHEMA = 2
export const ROWS = (HIGH - LOW) << SCHEMA
const TICKS: [number, string][] = [[1e-6, '1 µs'], [1e-5, ''], [1e-4, '100 µs'], [1e-3, ''], [1e-2, '10 ms'], [1e-1, ''], [1, '1 s']]

/** What a heatmap is of: a key of its own on the page, and what is counted. */
export interface Slot { key: string; title: string; what: string }
const SLOTS: (Slot & { key: 'calls' | 'waits' })[] = [
  { key: 'calls', title: 'System call latency', what: 'calls' },
  { key: 'waits', title: 'Run-queue latency', what: 'waits' },
]
/** A heatmap of what is read while the page is there; why: it is not. */
export interface Read { slot: Slot; gains: Gain[]; why: string }

/** Seconds before the end under the pointer, -1: none. Shared, so that all slots show the same moment. */
const hover = signal({ x: -1, row: -1, slot: '' })

export function HeatGroup({ seconds, read, end, span, running }: { seconds: Second[]; read: Read[]; end: number; span: number; running: boolean }) {
  // The last second is whole: a sample comes some time after its beginning.
  const last = Math.floor(end / 1000 - 0.5)
  const known = seconds[0] ? Math.floor(seconds[0].t / 1000) : last + 1
  const columns = toColumns(seconds, last - span + 1, span)
  let holes = 0
  columns.forEach((c, x) => {
    if (!c && last - span + 1 + x > known) holes++
  })
  return (
    <section class="heats" aria-label="Latency over time" data-holes={holes}>
      {SLOTS.map((s) => <Heatmap key={s.key} slot={s} columns={columns.map((c) => c?.[s.key])} last={last} known={known} waiting={running ? 'waiting for the first second' : 'nothing was recorded in this time'} />)}
      {read.map(({ slot, gains, why }) => why && !gains.length ? <div key={slot.key} class="heat empty"><h2>{slot.title}</h2><Refused why={why} /></div> : (
        <Heatmap key={slot.key} slot={slot} columns={layOut(gains, last, span, (g) => g.n)} last={last} known={gains[0] ? Math.floor(gains[0].t / 1000) : last + 1}
          waiting={running ? 'recorded while this page is open' : 'nothing was recorded in this time'} />
      ))}
    </section>
  )
}

/** A column is a second, the newest is second last; known is the first that could be recorded: later ones that are not there are
 * hatched. While there is none, waiting is shown. */
export function Heatmap({ slot, columns, last, known, waiting }: { slot: Slot; columns: (Counts | undefined)[]; last: number; known: number; waiting: string }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const width = useSignal(0)
  const asTable = param('table') === slot.key
  useEffect(() => {
    const el = canvas.current
    if (!el) return
    const watch = new ResizeObserver(() => (width.value = el.clientWidth))
    watch.observe(el)
    return () => watch.disconnect()
  }, [asTable])
  const most = highest(columns)
  useEffect(() => {
    if (canvas.current && width.value) draw(canvas.current, columns, most, last, known)
  })
  const newest = columns.findLast((c) => c)
  const h = hover.value
  const at = h.x >= 0 && h.x < columns.length ? h.x : -1
  const second = at >= 0 ? columns[at] : undefined
  const move = (e: PointerEvent) => {
    const box = canvas.current?.getBoundingClientRect()
    if (!box) return
    hover.value = {
      x: Math.floor((e.clientX - box.left) / box.width * columns.length), row: Math.floor((1 - (e.clientY - box.top) / box.height) * ROWS), slot: slot.key,
    }
  }
  return (
    <figure class="heat" data-slot={slot.key} data-first={known} data-last={last}>
      <figcaption>
        <h2>{slot.title}</h2>
        <span class="legend">p50 <b data-q="p50">{newest ? duration(quantile(newest, 0.5)) : '–'}</b> p99 <b data-q="p99">{newest ? duration(quantile(newest, 0.99)) : '–'}</b></span>
        <button type="button" aria-pressed={asTable} onClick={() => setParams({ table: asTable ? '' : slot.key })}>{asTable ? 'Map' : 'Table'}</button>
      </figcaption>
      {asTable ? <AsTable columns={columns} last={last} slot={slot} /> : (
        <div class="plot">
          <div class="axis" aria-hidden="true">{TICKS.filter(([, t]) => t).map(([v, t]) => <span key={t} style={{ bottom: (Math.log2(v) - LOW) / (HIGH - LOW) * 100 + '%' }}>{t}</span>)}</div>
          <canvas ref={canvas} role="img" aria-label={summary(slot, columns, last)} data-theme={theme.value}
            onPointerMove={move} onPointerLeave={() => (hover.value = { x: -1, row: -1, slot: '' })} />
          {at >= 0 && <i class="cross" style={{ left: `calc(var(--axis) + (100% - var(--axis)) * ${(at + 0.5) / columns.length})` }} aria-hidden="true" />}
          {at >= 0 && h.slot === slot.key && <Tip second={second} slot={slot} row={h.row} time={(last - columns.length + 1 + at) * 1000} right={at > columns.length * 0.6} />}
          {!columns.some((c) => c?.n.some((n) => n > 0)) && <p class="quiet over">{newest ? `no ${slot.what} in this time` : waiting}</p>}
          <div class="times" aria-hidden="true"><span>{clock((last - columns.length + 1) * 1000)}</span><span>{clock((last - columns.length / 2) * 1000)}</span><span>{clock(last * 1000)}</span></div>
        </div>
      )}
    </figure>
  )
}

function Tip({ second, slot, row, time, right }: { second: Counts | undefined; slot: Slot; row: number; time: number; right: boolean }) {
  const index = row + 1 + (LOW << SCHEMA) // native bucket whose lower bound is the row's
  const n = second ? countIn(second, index) : NaN
  return (
    <div class={'tip' + (right ? ' left' : '')} role="presentation">
      <b>{clock(time)}</b>
      {second ? <><span>{duration(bound(SCHEMA, index - 1))} to {duration(bound(SCHEMA, index))}</span><span>{n < 1 && n > 0 ? '<1' : Math.round(n).toLocaleString('en-GB')} {slot.what}</span></> : <span>no data</span>}
    </div>
  )
}

/** How many are in native bucket index of schema 2; a coarser histogram's are spread over its part. */
function countIn(c: Counts, index: number): number {
  const shift = SCHEMA - c.schema
  const i = ((index - 1) >> shift) + 1 - c.first
  return (c.n[i] ?? 0) / (1 << shift)
}

function highest(columns: (Counts | undefined)[]): number {
  let most = 1
  for (const h of columns) {
    if (!h) continue
    for (const n of h.n) most = Math.max(most, n / (1 << (SCHEMA - h.schema)))
  }
  return most
}

/** Few to many, in both themes from the background to what stands out most. */
const RAMPS = {
  dark: [[20, 34, 52], [27, 74, 120], [24, 130, 160], [92, 190, 150], [226, 214, 96], [255, 250, 220]],
  light: [[226, 236, 246], [160, 202, 232], [92, 156, 210], [46, 102, 172], [42, 52, 122], [30, 14, 66]],
} as const

function ramp(share: number): readonly [number, number, number] {
  const stops = RAMPS[theme.value]
  const at = Math.min(0.9999, Math.max(0, share)) * (stops.length - 1)
  const a = stops[Math.floor(at)]!, b = stops[Math.floor(at) + 1]!, f = at % 1
  return [a[0] + (b[0] - a[0]) * f, a[1] + (b[1] - a[1]) * f, a[2] + (b[2] - a[2]) * f]
}

function draw(canvas: HTMLCanvasElement, columns: (Counts | undefined)[], most: number, last: number, known: number): void {
  const scale = devicePixelRatio || 1
  const w = Math.round(canvas.clientWidth * scale), h = Math.round(canvas.clientHeight * scale)
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w
    canvas.height = h
  }
  const g = canvas.getContext('2d')
  if (!g || !w || !h) return
  g.clearRect(0, 0, w, h)
  const image = cells(columns, most)
  g.imageSmoothingEnabled = false
  g.drawImage(image, 0, 0, w, h)
  grid(g, w, h)
  const step = w / columns.length
  columns.forEach((c, x) => {
    // What was not recorded is hatched; before the first second nothing could be.
    if (!c && last - columns.length + 1 + x > known) hatch(g, x * step, step, h, scale)
  })
  line(g, columns, w, h, scale)
}

let scratch: OffscreenCanvas | undefined
function cells(columns: (Counts | undefined)[], most: number): OffscreenCanvas {
  if (!scratch || scratch.width !== columns.length) scratch = new OffscreenCanvas(columns.length, ROWS)
  const g = scratch.getContext('2d')!
  const img = g.createImageData(columns.length, ROWS)
  const log = Math.log1p(most)
  columns.forEach((h, x) => {
    if (!h) return
    const shift = SCHEMA - h.schema
    for (let i = 0; i < h.n.length; i++) {
      const n = h.n[i]! / (1 << shift)
      if (!n) continue
      const [r, gr, b] = ramp(0.12 + 0.88 * Math.log1p(n) / log)
      // Native bucket index lies above bound index-1: its rows at schema 2 are those below it.
      const top = (h.first + i) << shift
      for (let k = 0; k < 1 << shift; k++) {
        const row = Math.min(ROWS - 1, Math.max(0, top - 1 - k - (LOW << SCHEMA)))
        const p = ((ROWS - 1 - row) * columns.length + x) * 4
        img.data[p] = r
        img.data[p + 1] = gr
        img.data[p + 2] = b
        img.data[p + 3] = 255
      }
    }
  })
  g.putImageData(img, 0, 0)
  return scratch
}

const y = (seconds: number, h: number): number => h - (Math.log2(seconds) - LOW) / (HIGH - LOW) * h

function grid(g: CanvasRenderingContext2D, w: number, h: number): void {
  g.fillStyle = theme.value === 'dark' ? 'rgba(255,255,255,.07)' : 'rgba(0,0,0,.08)'
  for (const [v] of TICKS) g.fillRect(0, Math.round(y(v, h)), w, 1)
}

function hatch(g: CanvasRenderingContext2D, x: number, width: number, h: number, scale: number): void {
  g.save()
  g.beginPath()
  g.rect(Math.floor(x), 0, Math.ceil(width), h)
  g.clip()
  g.fillStyle = theme.value === 'dark' ? '#141a21' : '#eceff2'
  g.fillRect(x, 0, width + 1, h)
  g.strokeStyle = theme.value === 'dark' ? '#39434f' : '#b9c2cb'
  g.lineWidth = scale
  const gap = 7 * scale
  for (let d = Math.floor((x - h) / gap) * gap; d < x + width; d += gap) {
    g.beginPath()
    g.moveTo(d, h)
    g.lineTo(d + h, 0)
    g.stroke()
  }
  g.restore()
}

/** The p99 of each second. A hole in the data is a hole in the line. */
function line(g: CanvasRenderingContext2D, columns: (Counts | undefined)[], w: number, h: number, scale: number): void {
  g.strokeStyle = theme.value === 'dark' ? '#ff9d5c' : '#b3400a'
  g.lineWidth = 1.5 * scale
  g.beginPath()
  const step = w / columns.length
  let pen = false
  columns.forEach((c, x) => {
    const v = c ? quantile(c, 0.99) : NaN
    if (Number.isNaN(v)) {
      pen = false
      return
    }
    const top = Math.max(1, y(v, h))
    if (!pen) g.moveTo(x * step, top)
    g.lineTo((x + 1) * step, top)
    pen = true
  })
  g.stroke()
}

/** A heatmap in words, for those who do not see it. Told anew at most every ten seconds. */
const said = new Map<string, { at: number; text: string }>()
function summary(slot: Slot, columns: (Counts | undefined)[], last: number): string {
  const old = said.get(slot.key)
  if (old && last - old.at < 10 && last >= old.at) return old.text
  const x = columns.findLastIndex((c) => c), c = columns[x]
  const text = !c ? `${slot.title}: no data`
    : `${slot.title}, last ${columns.length} seconds. At ${clock((last - columns.length + 1 + x) * 1000)}: median ${duration(quantile(c, 0.5))}, 99th percentile ${duration(quantile(c, 0.99))}.`
  said.set(slot.key, { at: last, text })
  return text
}

function AsTable({ columns, last, slot }: { columns: (Counts | undefined)[]; last: number; slot: Slot }) {
  const rows = columns.map((c, x) => ({ c, at: (last - columns.length + 1 + x) * 1000 })).reverse().slice(0, 60)
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={slot.title + ' as a table, scrollable'}>
      <table><thead><tr><th scope="col">Second</th><th scope="col">{slot.what}</th><th scope="col">p50 ≤</th><th scope="col">p99 ≤</th><th scope="col">longest ≤</th></tr></thead>
        <tbody>{rows.map(({ c, at }) => (
          <tr key={at}><th scope="row">{clock(at)}</th>{c ? <>
            <td>{c.n.reduce((a, n) => a + n, 0).toLocaleString('en-GB')}</td><td>{duration(quantile(c, 0.5))}</td>
            <td>{duration(quantile(c, 0.99))}</td><td>{duration(quantile(c, 1))}</td></> : <td colSpan={4}>no data</td>}</tr>
        ))}</tbody></table>
    </div>
  )
}
