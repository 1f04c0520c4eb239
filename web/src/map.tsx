// The service map: which containers ask which, drawn and as a table.
import { useRef } from 'preact/hooks'
import { bytes, clock, duration, rate, whole } from './format'
import { useReadings } from './reading'
import { Refused } from './refused'
import { pausedAt } from './route'
import { arrows, type Arrow, type Drawn, type End, keyOf, labelOf, layout, merged, POINTS_DRAWN, type ServiceMap } from './servicemap'
import { Link } from './shell'

/** Milliseconds between two readings. */
const EVERY = 2000
/** More lines than these have words on them only while the pointer is on them, or when something goes wrong; the table has all. */
const LABELLED = 12
const BOX = { width: 156, height: 30 }, STEP = { x: 300, y: 58 }, EDGE = 12

export function MapView() {
  const live = useReadings<ServiceMap>('map', EVERY).value, held = useRef(live)
  if (!pausedAt.value) held.current = live
  const { all, problem } = held.current
  const m = all.at(-1), before = all.length > 1 ? all[0]! : null
  if (!m) return <div class="notice"><h1>Map</h1>{problem ? <Refused why={problem} /> : <p aria-busy="true" />}</div>
  const list = arrows(before, m)
  const ends = new Map(m.points.map((p) => [keyOf(p), p]))
  const containers = m.points.filter((p) => p.kind === 'container').length
  const wrong = list.filter((a) => a.wrong).length
  return (
    <section class="map">
      <div class="summary">
        <h1 class="hidden">Map</h1>
        <span><b>{containers}</b> containers</span><span><b>{m.edges.length}</b> connections between them and others</span>
        {wrong > 0 && <span class="alarm">{wrong} with failures, losses or drops now</span>}
        {m.points.length > POINTS_DRAWN && <span>{POINTS_DRAWN} of {m.points.length} are drawn</span>}
        {m.more > 0 && <span class="alarm">{m.more} more are not shown</span>}
        {problem && <span class="alarm">{problem}; this is of {clock(Date.parse(m.at))}</span>}
      </div>
      {!list.length ? <p class="quiet pad">No container has talked to anybody by TCP since its start.</p>
        : <div class="scroll" tabIndex={0} role="region" aria-label="Map, scrollable"><Picture points={m.points} list={list} /><Edges list={list} ends={ends} /></div>}
    </section>
  )
}

function Picture({ points, list }: { points: End[]; list: Arrow[] }) {
  const drawn = merged(list)
  const spots = layout(points.map(keyOf), drawn)
  const at = new Map(spots.map((s) => [s.key, { x: EDGE + s.column * STEP.x, y: EDGE + s.row * STEP.y }]))
  const ends = new Map(points.map((p) => [keyOf(p), p]))
  const width = EDGE * 2 + BOX.width + Math.max(...spots.map((s) => s.column)) * STEP.x
  const height = EDGE * 2 + BOX.height + Math.max(...spots.map((s) => s.row)) * STEP.y
  return (
    <svg class={drawn.length > LABELLED ? 'picture dense' : 'picture'} width={String(width)} height={String(height)} viewBox={`0 0 ${width} ${height}`} role="group" aria-label="Who asks whom, from left to right; the table below says the same">
      <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z" fill="context-stroke" /></marker></defs>
      <g aria-hidden="true">{drawn.map((d) => {
        const from = at.get(d.from), to = at.get(d.to)
        return from && to && <Line key={d.from + '|' + d.to} d={d} from={from} to={to} />
      })}</g>
      {spots.map((s) => <Point key={s.key} end={ends.get(s.key)!} {...at.get(s.key)!} />)}
    </svg>
  )
}

interface Place { x: number; y: number }

function Line({ d, from, to }: { d: Drawn; from: Place; to: Place }) {
  const forward = to.x > from.x
  const x1 = from.x + (forward ? BOX.width : BOX.width / 2), y1 = from.y + BOX.height / (forward ? 2 : 1)
  const x2 = forward ? to.x : to.x + BOX.width / 2, y2 = to.y + (forward ? BOX.height / 2 : to.y > from.y ? 0 : BOX.height)
  const bend = forward ? Math.max(40, (x2 - x1) / 2) : 0
  const sag = forward ? 0 : 26
  const path = `M${x1} ${y1}C${x1 + bend} ${y1 + sag} ${x2 - bend} ${y2 + sag} ${x2} ${y2}`
  const thick = 1 + Math.min(4, Math.log10(1 + (d.bytes || 0)) / 2)
  const ports = d.ports.length ? ':' + d.ports[0] + (d.ports.length > 1 ? ` +${d.ports.length - 1}` : '') : ''
  // There is room for what is wrong, or for how it goes.
  const said = d.wrong.length ? ['⚠ ' + d.wrong.join(', ')] : [d.bytes > 0 ? bytes(d.bytes) + '/s' : '', Number.isNaN(d.rtt) ? '' : duration(d.rtt)]
  const label = [ports, ...said].filter(Boolean).join(' ')
  // Nearer to who asks: of lines that cross, each has its words on its own side.
  const lx = x1 + (x2 - x1) * 0.5, ly = y1 + (y2 - y1) * 0.36 + sag * 0.75 - 4
  return (
    <g class={d.wrong.length ? 'wrong' : d.open || d.bytes ? 'busy' : 'idle'}>
      <path d={path} fill="none" stroke-width={String(thick)} marker-end="url(#tip)" />
      <text x={String(lx)} y={String(ly)} text-anchor="middle">{label}</text>
    </g>
  )
}

function Point({ end, x, y }: { end: End } & Place) {
  const label = labelOf(end)
  const box = <>
    <rect x={String(x)} y={String(y)} width={String(BOX.width)} height={String(BOX.height)} rx="6" />
    <text x={String(x + BOX.width / 2)} y={String(y + BOX.height / 2 + 4)} text-anchor="middle">{label.length > 20 ? label.slice(0, 19) + '…' : label}</text>
    <title>{label}</title>
  </>
  return <g class={'point ' + end.kind} data-point={label}>{end.kind === 'container' && end.name ? <Link path={'/c/' + end.id} label={label}>{box}</Link> : box}</g>
}

const counted = (counts: Record<string, number>): string => Object.entries(counts).map(([why, n]) => `${n} ${why.replaceAll('_', ' ')}`).join(', ') || '0'

function Edges({ list, ends }: { list: Arrow[]; ends: Map<string, End> }) {
  const name = (key: string) => labelOf(ends.get(key)!)
  return (
    <table class="events">
      <thead><tr>{['From', 'To', 'Port', 'Open', 'Opened/s', 'Sent/s', 'Received/s', 'Failed', 'Sent again', 'Drops', 'Round trip', 'Now'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
      <tbody>{list.map((a) => (
        <tr key={[a.from, a.to, a.port].join('|')}>
          <th scope="row">{name(a.from)}</th><td>{name(a.to)}</td><td>{a.port}</td><td>{whole(a.open)}</td><td>{rate(a.opened)}</td>
          <td>{bytes(a.sent)}</td><td>{bytes(a.received)}</td><td>{counted(a.failed)}</td><td>{whole(a.retransmits)}</td><td>{counted(a.drops)}</td>
          <td>{duration(a.rtt)}</td><td>{a.wrong && <span class="alarm">{a.wrong}</span>}</td>
        </tr>
      ))}</tbody>
    </table>
  )
}
