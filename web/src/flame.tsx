// A profile of the container on demand, as a flame graph: widths are shares of the time, callers above what they call.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { plainText } from './detail'
import { ask } from './dump'
import { duration, percent } from './format'

export interface Call { name: string; value: number; calls?: Call[] }
interface Answer { summary: string; root: Call }
export interface Box { call: Call; path: number[]; depth: number; left: number; width: number }

const SECONDS = 10
const ROW = 20
/** Narrower than this part of the graph, a function is not drawn. */
const LEAST = 0.001

/** The boxes of what is shown when call is as wide as the graph, callers first; those beside it are left out. */
export function boxes(root: Call, zoom: number[]): Box[] {
  const out: Box[] = []
  const add = (call: Call, path: number[], depth: number, left: number, width: number) => {
    if (width < LEAST) return
    out.push({ call, path, depth, left, width })
    if (depth < zoom.length) {
      const i = zoom[depth]!
      const next = call.calls?.[i]
      if (next) add(next, [...path, i], depth + 1, 0, 1)
      return
    }
    let at = left
    call.calls?.forEach((c, i) => {
      const w = width * c.value / (call.value || 1)
      add(c, [...path, i], depth + 1, at, w)
      at += w
    })
  }
  add(root, [], 0, 0, 1)
  return out
}

/** A colour per name: the kernel's and what has no name are pale. */
function hue(name: string): number {
  let h = 0
  for (const c of name) h = (h * 31 + c.codePointAt(0)!) % 60
  return h
}

export function Flame({ id, running }: { id: string; running: boolean }) {
  const got = useSignal<Answer | null>(null), kind = useSignal('cpu'), busy = useSignal(false), problem = useSignal('')
  const zoom = useSignal<number[]>([])
  useEffect(() => () => void (busy.value = false), [])
  const take = (k: string) => {
    kind.value = k
    busy.value = true
    problem.value = ''
    ask<Answer>(`containers/${encodeURIComponent(id)}/profile?form=flame&kind=${k}&seconds=${SECONDS}`).then((a) => {
      got.value = a
      zoom.value = []
    }, (e: Error) => (problem.value = e.message)).finally(() => (busy.value = false))
  }
  const root = got.value?.root
  const all = root ? boxes(root, zoom.value) : []
  const depth = all.reduce((n, b) => Math.max(n, b.depth), 0) + 1
  return (
    <div class="flame" data-busy={busy.value}>
      <p class="pad flame-bar">
        <button type="button" disabled={busy.value || !running} onClick={() => take('cpu')}>Profile {SECONDS} s</button>
        <button type="button" disabled={busy.value || !running} onClick={() => take('off-cpu')}>Waits of {SECONDS} s</button>
        {zoom.value.length > 0 && <button type="button" onClick={() => (zoom.value = [])}>Whole graph</button>}
        <span class="quiet" role="status">{busy.value ? `looking at the container for ${SECONDS} seconds…` : problem.value ? '' : got.value?.summary ?? (running ? 'what it is busy with, or waits for, by function' : 'it does not run')}</span>
        {problem.value && <span class="error" role="alert">{plainText(problem.value)}</span>}
      </p>
      {root && root.value === 0 && <p class="quiet pad">It did nothing in this time{kind.value === 'cpu' ? ' on a processor' : ''}.</p>}
      {root && root.value > 0 && (
        <div class="flame-graph" style={{ height: depth * ROW + 'px' }} role="group" aria-label="Flame graph">
          {all.map((b) => {
            const text = `${plainText(b.call.name)}: ${duration(b.call.value / 1e9)}, ${percent(b.call.value / root.value)}`
            return (
              <button key={b.path.join('.')} type="button" title={text} aria-label={text} data-name={b.call.name}
                style={{ left: b.left * 100 + '%', width: b.width * 100 + '%', top: b.depth * ROW + 'px', '--hue': hue(b.call.name) }}
                onClick={() => (zoom.value = b.path)}>{b.width > 0.02 && plainText(b.call.name)}</button>
            )
          })}
        </div>
      )}
    </div>
  )
}
