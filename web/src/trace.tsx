// The system calls of a container as they happen, while this tab is looked at; filtered in the kernel.
import { useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { plainText } from './detail'
import { clockMillis, duration, rate } from './format'
import { drawn, redraw } from './frame'
import { param, setParams } from './route'
import { Stream } from './stream'
import { Trace, tracePath, type TraceEvent, type TraceLine } from './tracing'

const FIELDS = ['sys', 'slower', 'tcomm'] as const

export function TraceTab({ id, running }: { id: string; running: boolean }) {
  const trace = useSignal(new Trace()), still = useSignal(false)
  const stream = useMemo(() => new Stream<TraceEvent>((e) => {
    trace.value.apply(e, performance.now())
    if (!still.value) redraw()
  }, () => {}), [])
  const on = param('trace') === 'on'
  const path = tracePath(id, { sys: param('sys'), slower: param('slower'), comm: param('tcomm'), errors: param('failing') === '1', memory: param('args') !== '0' })
  useEffect(() => {
    if (on && running) {
      trace.value = new Trace()
      still.value = false
      stream.start(path)
    } else stream.stop()
  }, [on && running, path])
  useEffect(() => () => stream.stop(), [])
  drawn.value
  const phase = stream.phase.value
  const said = phase.kind === 'refused' ? plainText(phase.mistake.message) : phase.kind === 'over' ? plainText(phase.why)
    : phase.kind === 'resting' ? 'resting while nobody looks' : phase.kind === 'waiting' ? 'the connection is lost, tracing again'
    : phase.kind === 'asking' ? 'attaching…' : phase.kind === 'live' ? '' : running ? 'not tracing' : 'it does not run'
  const bad = phase.kind === 'refused' || phase.kind === 'over' && phase.failed
  return (
    <div class="logs trace" data-phase={phase.kind}>
      <form class="bar" aria-label="Trace" onSubmit={(e) => {
        e.preventDefault()
        const f = new FormData(e.currentTarget)
        const next: Record<string, string> = { trace: 'on', failing: f.get('failing') ? '1' : '', args: f.get('args') ? '' : '0' }
        for (const k of FIELDS) next[k] = String(f.get(k) ?? '').trim()
        setParams(next)
        if (on) stream.start(tracePath(id, { sys: next.sys!, slower: next.slower!, comm: next.tcomm!, errors: next.failing === '1', memory: next.args !== '0' }))
      }}>
        {/* Their values are the user's own while calls come: a value would be set anew with each redraw. */}
        <label>calls <input name="sys" class="mono" size={24} spellcheck={false} autocomplete="off" placeholder="open*,connect" defaultValue={param('sys')} /></label>
        <label>slower than <input name="slower" class="mono" size={6} spellcheck={false} autocomplete="off" placeholder="5ms" defaultValue={param('slower')} /></label>
        <label>thread <input name="tcomm" class="mono" size={10} spellcheck={false} autocomplete="off" placeholder="name" defaultValue={param('tcomm')} /></label>
        <label><input type="checkbox" name="failing" defaultChecked={param('failing') === '1'} /> failing only</label>
        <label><input type="checkbox" name="args" defaultChecked={param('args') !== '0'} /> read paths and buffers</label>
        {on && <button type="button" onClick={() => setParams({ trace: '' })}>Stop</button>}
        <button type="submit" class={on ? '' : 'strong'} disabled={!running}>{on ? 'Trace anew' : 'Trace'}</button>
        {trace.value.lines.length > 0 && <button type="button" aria-pressed={still.value} onClick={() => {
          still.value = !still.value
          redraw()
        }}>Hold still</button>}
        <span class={bad ? 'error' : 'quiet'} role={bad ? 'alert' : 'status'}>{said || `${rate(trace.value.rate(performance.now()))} calls/s`}</span>
        {trace.value.lost > 0 && <span class="alarm" data-lost={trace.value.lost}>{trace.value.lost.toLocaleString('en-GB')} calls lost</span>}
      </form>
      <TraceLines trace={trace.value} still={still.value} on={on} />
    </div>
  )
}

function TraceLines({ trace, still, on }: { trace: Trace; still: boolean; on: boolean }) {
  const box = useRef<HTMLDivElement>(null), held = useRef<TraceLine[]>([])
  if (!still) held.current = trace.lines
  else if (held.current === trace.lines) held.current = [...trace.lines]
  useEffect(() => {
    const el = box.current
    if (el && !still) el.scrollTop = el.scrollHeight
  })
  return (
    <div class="scroll lines" ref={box} tabIndex={0} role="log" aria-label="Traced calls" aria-live="off">
      {held.current.map(({ n, e }) => e.lost ? <div key={n} class="err"><time>…</time><span>{e.lost.toLocaleString('en-GB')} calls lost: they came too fast</span></div> : (
        <div key={n} class={e.error ? 'err' : ''}>
          <time>{clockMillis(Date.parse(e.at!))}</time><b>{plainText(e.comm ?? '')}[{e.tid}]</b>
          <span>{plainText(e.text ?? '')}{!e.inCall && ` = ${e.error ? '-1 ' + e.error : e.result}`}</span>
          {e.duration ? <em>{duration(e.duration / 1e9)}</em> : null}
        </div>
      ))}
      {!held.current.length && <p class="quiet">{on ? 'No call passed yet.' : 'Every call of its threads, with arguments and results, as strace shows them. The hooks are attached while you look and at no other time.'}</p>}
    </div>
  )
}
