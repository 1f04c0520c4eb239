// Events and log of a container.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { EventList, LogList, plainText } from './detail'
import { clock, clockMillis } from './format'
import { drawn, redraw } from './frame'
import { param, setParams } from './route'
import { subscribe } from './socket'

const HIDDEN_ATTRS = new Set(['name', 'image', 'execID', 'triton.run'])

export function Events({ id }: { id: string }) {
  const list = useMemo(() => new EventList(), [])
  const problem = useSignal('')
  useEffect(() => subscribe('events', { key: id }, {
    frame(f) {
      list.apply(f)
      redraw()
    },
    error: (_code, message) => (problem.value = message),
  }), [])
  drawn.value
  if (problem.value) return <p class="error">{problem.value}</p>
  if (!list.rows.length) return <p class="quiet">No events in the last hour.</p>
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Events, scrollable">
      {list.lost > 0 && <p class="alarm">{list.lost} events were lost before they could be shown.</p>}
      <table class="events">
        <thead><tr><th scope="col">Time</th><th scope="col">Event</th><th scope="col">Details</th></tr></thead>
        <tbody>{list.rows.toReversed().map((e, i) => (
          <tr key={list.rows.length - i}>
            <td class="mono">{clockMillis(e.t)}</td>
            <td class={e.a === 'oom' || (e.a === 'die' && e.x?.exitCode !== '0') ? 'alarm' : ''}>{e.a}</td>
            <td class="mono">{Object.entries(e.x ?? {}).filter(([k]) => !HIDDEN_ATTRS.has(k)).map(([k, v]) => `${k}=${v}`).join('  ')}</td>
          </tr>
        ))}</tbody>
      </table>
    </div>
  )
}

export function Logs({ id, readable }: { id: string; readable: boolean }) {
  const list = useMemo(() => new LogList(), [])
  const problem = useSignal('')
  const box = useRef<HTMLDivElement>(null)
  const follow = param('follow') !== '0'
  useEffect(() => {
    if (!readable) return
    return subscribe('logs', { key: id }, {
      frame(f) {
        list.apply(f)
        redraw()
      },
      error: (_code, message) => (problem.value = message),
    })
  }, [])
  drawn.value
  useEffect(() => {
    const el = box.current
    if (el && follow) el.scrollTop = el.scrollHeight
  })
  if (!readable) return <p class="quiet">This container's log driver keeps nothing that can be read back.</p>
  if (problem.value) return <p class="error">{problem.value}</p>
  const scrolled = () => {
    const el = box.current
    if (!el) return
    const atEnd = el.scrollTop + el.clientHeight > el.scrollHeight - 8
    if (atEnd !== follow) setParams({ follow: atEnd ? '' : '0' })
  }
  return (
    <div class="logs">
      <div class="bar">
        <label><input type="checkbox" checked={follow} onChange={(e) => setParams({ follow: e.currentTarget.checked ? '' : '0' })} /> Follow</label>
        <span class="quiet">{list.rows.length} lines{list.ended && ', the container does not run'}</span>
        {list.skipped > 0 && <span class="alarm">{list.skipped} lines came too fast and are not shown</span>}
      </div>
      <div class="scroll lines" ref={box} tabIndex={0} role="log" aria-label="Log" aria-live="off" onScroll={scrolled}>
        {list.rows.map((l, i) => (
          <div key={list.base + i} class={l.e ? 'err' : ''}><time>{clock(l.t)}</time><span>{l.e && <i class="hidden">stderr: </i>}{plainText(l.l)}{l.x && <em> … cut</em>}</span></div>
        ))}
        {!list.rows.length && <p class="quiet">Nothing was written yet.</p>}
      </div>
    </div>
  )
}
