import { type CallRow, type Detail } from './detail'
import { about, duration, percent, rate } from './format'
import { drawn } from './frame'
import { param, setParams } from './route'

const COLUMNS: { key: keyof CallRow | 'share'; title: string; text: (c: CallRow) => string; sort: (c: CallRow) => number | string }[] = [
  { key: 'name', title: 'System call', text: (c) => c.name, sort: (c) => c.name },
  { key: 'rate', title: 'Calls/s', text: (c) => rate(c.rate), sort: (c) => c.rate },
  { key: 'errors', title: 'Errors/s', text: (c) => rate(c.errors), sort: (c) => c.errors },
  { key: 'share', title: 'Failing', text: (c) => percent(c.rate ? c.errors / c.rate : NaN), sort: (c) => (c.rate ? c.errors / c.rate : NaN) },
  { key: 'p50', title: 'p50 ≤', text: (c) => duration(c.p50), sort: (c) => c.p50 },
  { key: 'p99', title: 'p99 ≤', text: (c) => duration(c.p99), sort: (c) => c.p99 },
  { key: 'total', title: 'Calls in all', text: (c) => c.total.toLocaleString('en-GB'), sort: (c) => c.total },
]

export function Calls({ detail }: { detail: Detail }) {
  drawn.value // a view that reads a signal is drawn again for its signals and its props only, and detail stays the same object
  const by = param('calls') || '-rate'
  const column = COLUMNS.find((c) => c.key === by.replace('-', '')) ?? COLUMNS[1]!
  const sign = by.startsWith('-') ? -1 : 1
  const last = (v: number | string) => typeof v === 'number' && Number.isNaN(v)
  const rows = [...detail.calls].sort((a, b) => {
    const x = column.sort(a), y = column.sort(b)
    if (last(x) !== last(y)) return last(x) ? 1 : -1
    return (x < y ? -sign : x > y ? sign : 0) || b.total - a.total
  })
  const level = detail.meta?.level
  const uncounted = level === 'counters' || level === 'off'
  if (!rows.length) return <p class="quiet">{uncounted ? `System calls are not counted at level ${level}.` : 'No system call was seen yet.'}</p>
  const most = Math.max(...rows.map((c) => c.rate || 0))
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="System calls, scrollable">
      <table class="calls">
        <caption>{detail.callSeconds ? `Rates and quantiles of the last ${Math.round(detail.callSeconds)} s` : 'Rates come with the second sample'}; quantiles are upper bounds of power-of-two buckets.
          {(detail.callsGuessed || detail.totalsGuessed > 0) && ` ~ is an estimate${detail.totalsGuessed > 0 ? `: calls were counted in ${percent(1 - detail.totalsGuessed)} of the time` : ''}.`}
          {detail.callsOff > 0 && ` The sum of totals is off by ${percent(detail.callsOff)} at most, in 95 of 100 cases.`}
          {uncounted && ` Not counted now: the container is at level ${level}.`}</caption>
        <thead><tr>{COLUMNS.map((c) => (
          <th key={c.key} scope="col" aria-sort={column === c ? (sign < 0 ? 'descending' : 'ascending') : 'none'}>
            <button type="button" onClick={() => {
              const next = column === c ? (sign < 0 ? c.key : '-' + c.key) : c.key === 'name' ? c.key : '-' + c.key
              setParams({ calls: next === '-rate' ? '' : next })
            }}>{c.title}<i aria-hidden="true">{column === c ? (sign < 0 ? '▾' : '▴') : ''}</i></button>
          </th>
        ))}</tr></thead>
        <tbody>{rows.map((c) => (
          <tr key={c.nr} data-call={c.name} class={c.rate ? '' : 'idle'}>
            <th scope="row"><i class="bar" style={{ width: (most ? 100 * (c.rate || 0) / most : 0).toFixed(1) + '%' }} aria-hidden="true" />{c.name}</th>
            {COLUMNS.slice(1).map((col) => <td key={col.key} data-col={col.key} class={(col.key === 'errors' || col.key === 'share') && c.errors > 0 ? 'alarm' : ''}>{about(col.text(c), col.key === 'total' ? detail.totalsGuessed > 0 : detail.callsGuessed)}</td>)}
          </tr>
        ))}</tbody>
      </table>
    </div>
  )
}
