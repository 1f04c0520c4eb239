// A question of one's own: metric, predicate and what is told apart, answered each second while this page is looked at.
import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { plainText, quantile, type Counts } from './detail'
import { bytes, DASH, duration, percent, rate } from './format'
import { drawn, redraw, second } from './frame'
import { Heatmap } from './heat'
import { EXAMPLES, layOut, METRICS, metricOf, Tally, type Answer, type Metric, type Row } from './question'
import { param, pausedAt, setParams, span } from './route'
import { viewKeys } from './shell'
import { Stream, type Phase } from './stream'

/** Rows that are shown; the others are counted. */
const SHOWN = 200

export function AskView() {
  const metric = metricOf(param('m')), where = param('where'), by = param('by') || METRICS[metric].first
  const asked = param('m') !== ''
  const tally = useSignal(new Tally(by))
  const stream = useMemo(() => new Stream<Answer>((a) => {
    tally.value.apply(a)
    redraw()
  }, () => {}), [])
  const question = asked ? `/triton/v1/ask?${new URLSearchParams({ metric, where, by })}` : ''
  useEffect(() => {
    tally.value = new Tally(by)
    if (question) stream.start(question)
    else stream.stop()
  }, [question])
  useEffect(() => () => stream.stop(), [])
  const phase = stream.phase.value
  return (
    <article class="ask" data-phase={phase.kind} data-answers={(drawn.value, tally.value.seconds.length)}>
      <Form key={metric + '\n' + where + '\n' + by} metric={metric} where={where} by={by} phase={phase} stop={() => stream.stop()} again={() => {
        tally.value = new Tally(by)
        stream.start(question)
      }} />
      {asked && <h1 class="hidden">{METRICS[metric].name}{where && ' where ' + where}</h1>}
      {asked ? <Answers tally={tally.value} metric={metric} phase={phase} /> : <Examples />}
    </article>
  )
}

const runs = (p: Phase): boolean => p.kind !== 'off' && p.kind !== 'refused' && p.kind !== 'over'

function Form(p: { metric: Metric; where: string; by: string; phase: Phase; stop(): void; again(): void }) {
  const metric = useSignal(p.metric), where = useSignal(p.where), by = useSignal(p.by.split(',')), label = useSignal('')
  const submit = (e?: SubmitEvent) => {
    e?.preventDefault()
    const next = { m: metric.value, where: where.value.trim(), by: by.value.join(','), row: '' }
    if (param('m') === next.m && p.where === next.where && p.by === next.by) p.again()
    else setParams(next)
  }
  const toggle = (name: string) => {
    by.value = by.value.includes(name) ? by.value.filter((b) => b !== name) : [...by.value, name]
  }
  const mistake = p.phase.kind === 'refused' && where.value === p.where ? p.phase.mistake : undefined
  const m = METRICS[metric.value]
  const labels = by.value.filter((b) => b.startsWith('label:'))
  return (
    <form class="ask-form" onSubmit={submit} aria-label="Question">
      <div class="seg" role="group" aria-label="Metric">
        {(Object.keys(METRICS) as Metric[]).map((k) => (
          <button key={k} type="button" aria-pressed={metric.value === k} onClick={() => {
            metric.value = k
            by.value = METRICS[k].first.split(',')
          }}>{METRICS[k].name}</button>
        ))}
      </div>
      <div class="ask-where">
        <label for="where">where</label>
        <input id="where" class="mono" spellcheck={false} autocomplete="off" value={where.value} placeholder="everything" aria-invalid={mistake?.in === 'where'}
          aria-describedby="where-note" onInput={(e) => (where.value = e.currentTarget.value)} />
        {runs(p.phase) ? <button type="button" onClick={p.stop}>Stop</button> : <button type="submit" class="strong">Ask</button>}
        <p id="where-note" class={mistake ? 'error' : 'quiet'} role={mistake ? 'alert' : undefined}>
          {mistake ? <Mark text={mistake.in === 'where' ? p.where : ''} at={mistake.at ?? 0} what={plainText(mistake.what ?? mistake.message)} />
            : <>{m.where.split(' ').map((f) => <code key={f}>{f}</code>)} with <code>=</code> <code>!=</code> <code>&lt;</code> <code>&gt;</code>, joined by <code>&amp;&amp;</code> <code>||</code> <code>!</code> <code>( )</code></>}
        </p>
      </div>
      <div class="ask-by" role="group" aria-label="Told apart by">
        <span>by</span>
        {[...m.by, ...labels].map((name) => (
          <button key={name} type="button" aria-pressed={by.value.includes(name)} onClick={() => toggle(name)}>{name}</button>
        ))}
        <input class="mono" size={12} aria-label="Label to tell apart by" placeholder="label…" value={label.value} onInput={(e) => (label.value = e.currentTarget.value)}
          onKeyDown={(e) => {
            const name = 'label:' + label.value.trim()
            if (e.key !== 'Enter' || name === 'label:' || name.includes(',')) return
            e.preventDefault()
            if (!by.value.includes(name)) by.value = [...by.value, name]
            label.value = ''
          }} />
        {runs(p.phase) && changed(p, metric.value, where.value, by.value) && <button type="submit" class="strong">Ask this instead</button>}
      </div>
    </form>
  )
}

const changed = (p: { metric: Metric; where: string; by: string }, m: Metric, where: string, by: string[]): boolean =>
  m !== p.metric || where.trim() !== p.where || by.join(',') !== p.by

/** What was written, with the place of the mistake. at counts bytes. */
function Mark({ text, at, what }: { text: string; at: number; what: string }) {
  if (!text) return <>{what}</>
  const all = new TextEncoder().encode(text), before = new TextDecoder().decode(all.slice(0, at)), rest = text.slice(before.length)
  const word = /^(?:[^\s&|!=<>()]+|\S)?/.exec(rest)![0]
  return <><code>{before}<mark>{word || '␣'}</mark>{rest.slice(word.length)}</code> {what}</>
}

function Examples() {
  return (
    <section class="examples" aria-labelledby="examples-title">
      <h1 id="examples-title">Ask what your containers do just now</h1>
      <p class="quiet">The question is evaluated in the kernel, answered each second, and costs nothing once you leave. Start with one of these, or write your own above.</p>
      <ul>
        {EXAMPLES.map((e) => (
          <li key={e.title}><button type="button" onClick={() => setParams({ m: e.metric, where: e.where, by: e.by })}>
            <b>{e.title}</b><code>{e.metric}{e.where && ` where ${e.where}`}</code><span class="quiet">by {e.by.replaceAll(',', ', ')}</span>
          </button></li>
        ))}
      </ul>
    </section>
  )
}

function Status({ phase, tally }: { phase: Phase; tally: Tally }) {
  second.value
  drawn.value
  if (phase.kind === 'refused') return <p class="summary">This question was not asked.</p>
  const said = phase.kind === 'asking' ? 'asking…'
    : phase.kind === 'waiting' ? 'the connection is lost, asking again'
    : phase.kind === 'resting' ? 'resting while nobody looks'
    : phase.kind === 'over' ? plainText(phase.why)
    : phase.kind === 'off' ? 'stopped' : 'live'
  const cost = tally.price.runs ? `${rate(tally.price.runs)} runs a second, ${percent(tally.price.cpu)} of one CPU` : 'not measured yet'
  return (
    <div class="summary" role="status">
      <span class={phase.kind === 'live' ? 'on' : phase.kind === 'over' && phase.failed ? 'alarm' : ''}><b>{said}</b></span>
      <span><b>{tally.elapsed.toFixed(0)}</b> s</span>
      <span><b>{tally.containers}</b> {tally.containers === 1 ? 'container' : 'containers'}</span>
      <span>its programs cost <b>{cost}</b></span>
      {tally.lost > 0 && <span class="alarm"><b>{tally.lost.toLocaleString('en-GB')}</b> events lost</span>}
    </div>
  )
}

function Answers({ tally, metric, phase }: { tally: Tally; metric: Metric; phase: Phase }) {
  drawn.value
  const picked = tally.rows.get(param('row'))
  const pick = (r: Row | undefined) => setParams({ row: r && r.id !== picked?.id ? r.id : '' })
  const rows = sorted(tally)
  useLayoutEffect(() => {
    viewKeys.value = (key) => { // two keys may come between two drawings: what is picked is asked anew
      if (key === 'Escape') setParams({ row: '' })
      else if (key === 'j' || key === 'k') {
        const rows = sorted(tally), at = rows.findIndex((r) => r.id === param('row'))
        const next = rows[Math.min(rows.length - 1, Math.max(0, at + (key === 'j' ? 1 : -1)))]
        if (next) setParams({ row: next.id })
      }
    }
    return () => void (viewKeys.value = null)
  })
  return (
    <div class="answers">
      <Status phase={phase} tally={tally} />
      {tally.latency && phase.kind !== 'refused' && <Heat tally={tally} metric={metric} picked={picked} live={phase.kind === 'live'} />}
      <Table tally={tally} rows={rows} metric={metric} picked={picked} pick={pick} waiting={runs(phase)} />
    </div>
  )
}

function Heat({ tally, metric, picked, live }: { tally: Tally; metric: Metric; picked: Row | undefined; live: boolean }) {
  drawn.value // as in Calls
  const newest = tally.seconds.at(-1)
  const last = Math.floor((pausedAt.value || (live || !newest ? newest?.t ?? Date.now() : newest.t)) / 1000)
  const columns = layOut(tally.seconds, last, span.value, (s) => (picked ? s.rows.get(picked.id) ?? NONE : s.all))
  const known = tally.seconds[0] ? Math.floor(tally.seconds[0].t / 1000) : last + 1
  const title = picked ? picked.key.map((k) => plainText(k) || DASH).join(' · ') : 'All that passes'
  return (
    <section class="heats one" aria-label="Latency over time">
      <Heatmap slot={{ key: 'asked', title, what: METRICS[metric].what }} columns={columns} last={last} known={known} waiting="waiting for the first answer" />
    </section>
  )
}

const NONE: Counts = { schema: 2, first: 0, n: new Uint32Array() }

const mean = (r: Row): number => (r.timed ? r.ns / r.timed / 1e9 : NaN)
const p = (r: Row, q: number): number => (r.latency ? quantile(r.latency, q) : NaN)

interface Column { key: string; title: string; text(r: Row): string; value(r: Row): number }
const columnsOf = (t: Tally): Column[] => [
  { key: 'rate', title: 'Per second', text: (r) => rate(t.rate(r.id)), value: (r) => t.rate(r.id) },
  { key: 'count', title: 'In all', text: (r) => r.count.toLocaleString('en-GB'), value: (r) => r.count },
  { key: 'mean', title: 'Mean', text: (r) => duration(mean(r)), value: mean },
  ...(t.latency ? [
    { key: 'p50', title: 'p50 ≤', text: (r: Row) => duration(p(r, 0.5)), value: (r: Row) => p(r, 0.5) },
    { key: 'p99', title: 'p99 ≤', text: (r: Row) => duration(p(r, 0.99)), value: (r: Row) => p(r, 0.99) },
    { key: 'max', title: 'Longest ≤', text: (r: Row) => duration(p(r, 1)), value: (r: Row) => p(r, 1) },
  ] : []),
  ...([...t.rows.values()].some((r) => r.bytes) ? [{ key: 'bytes', title: 'Bytes', text: (r: Row) => bytes(r.bytes), value: (r: Row) => r.bytes }] : []),
]

/** The rows that have most of what the URL says; of old, they keep their place while it is the same. */
function sorted(t: Tally): Row[] {
  const column = columnsOf(t).find((c) => c.key === param('most')) ?? columnsOf(t).find((c) => c.key === 'count')!
  const known = (v: number) => (Number.isNaN(v) ? -1 : v)
  return [...t.rows.values()].sort((a, b) => known(column.value(b)) - known(column.value(a)) || b.count - a.count)
}

function Table({ tally, rows, metric, picked, pick, waiting }: {
  tally: Tally; rows: Row[]; metric: Metric; picked: Row | undefined; pick(r: Row | undefined): void; waiting: boolean
}) {
  drawn.value
  const body = useRef<HTMLTableElement>(null)
  useEffect(() => {
    body.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' })
  }, [picked?.id])
  if (!rows.length && !tally.rest.count) {
    return <p class="quiet pad">{!tally.seconds.length ? (waiting ? 'The first answer comes within two seconds.' : '') : tally.containers ? 'Nothing passed yet.' : 'No container passes the question.'}</p>
  }
  const columns = columnsOf(tally), most = param('most') || 'count'
  const all = rows.reduce((n, r) => n + r.count, tally.rest.count)
  const line = (r: Row) => columns.map((c) => <td key={c.key} data-col={c.key}>{c.text(r)}</td>)
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Answers, scrollable">
      <table class="calls asked" ref={body}>
        <caption>
          {rows.length > SHOWN && `${rows.length - SHOWN} more rows. `}Per second: of the last five answers. {tally.latency && 'Quantiles are upper bounds of buckets, four for each power of two. Choose a row to see it alone in the map.'}
        </caption>
        <thead><tr>
          {tally.by.map((name) => <th key={name} scope="col">{name}</th>)}
          {!tally.by.length && <th scope="col">{METRICS[metric].what}</th>}
          {columns.map((c) => (
            <th key={c.key} scope="col" aria-sort={most === c.key ? 'descending' : 'none'}>
              <button type="button" onClick={() => setParams({ most: c.key === 'count' ? '' : c.key })}>{c.title}<i aria-hidden="true">{most === c.key ? '▾' : ''}</i></button>
            </th>
          ))}
        </tr></thead>
        <tbody>
          {rows.slice(0, SHOWN).map((r) => (
            <tr key={r.id} class={r === picked ? 'picked' : ''} aria-current={r === picked ? 'true' : undefined} data-row={r.key.join(' ')}>
              {(r.key.length ? r.key : ['all']).map((k, i) => i === 0 ? (
                <th key={i} scope="row"><i class="bar" style={{ width: 100 * r.count / (all || 1) + '%' }} aria-hidden="true" />
                  {tally.latency && r.key.length ? <button type="button" class="link" aria-pressed={r === picked} onClick={() => pick(r)}>{plainText(k) || DASH}</button> : plainText(k) || DASH}</th>
              ) : <td key={i} class="key">{plainText(k) || DASH}</td>)}
              {line(r)}
            </tr>
          ))}
          {tally.rest.count > 0 && <tr class="idle"><th scope="row" colSpan={Math.max(1, tally.by.length)}>rest, which found no room</th>{line(tally.rest)}</tr>}
        </tbody>
      </table>
    </div>
  )
}
