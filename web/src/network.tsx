// How a container's TCP fares: how long connections take to open, wait to be accepted, and answer.
import { quantile } from './detail'
import { about, duration, rate, whole } from './format'
import { between, countsOf, gained, type Histogram, mean, type Readings, since, total } from './reading'
import { Refused } from './refused'

export interface Network {
  at: string; connect: Histogram; accept: Histogram; rtt: Histogram; failed: Record<string, number>; drops: Record<string, number>; resetsSent: number; resetsReceived: number
}

const ROWS: { key: 'accept' | 'connect' | 'rtt'; title: string; what: string }[] = [
  { key: 'accept', title: 'Accept delay', what: 'from the end of the handshake until accept returned the connection' },
  { key: 'connect', title: 'Connect', what: 'from the first SYN to the answer, of connections that it opened' },
  { key: 'rtt', title: 'Round trip', what: 'smoothed by the kernel; sampled once a second, and when a connection ends' },
]

export function NetworkTab({ readings, level }: { readings: Readings<Network>; level: string }) {
  const now = readings.all.at(-1), before = readings.all[0]
  if (!now || !before) return readings.problem ? <Refused why={readings.problem} /> : <p aria-busy="true" />
  const took = between(before, now), sampled = level === 'sampled', uncounted = level === 'counters' || level === 'off'
  return (
    <div class="scroll readings" tabIndex={0} role="region" aria-label="Network, scrollable">
      {readings.problem && <Refused why={readings.problem} />}
      <table class="calls">
        <caption>Rates, p50 and p99 are of the last 5 s, mean and all since its start. Quantiles are upper bounds of buckets, four for each power of two.
          {sampled && ' ~ is an estimate: accepts are counted one second of every ten.'}{uncounted && ` Accepts are not counted at level ${level}.`}</caption>
        <thead><tr>{['TCP', 'Per second', 'p50 ≤', 'p99 ≤', 'In all', 'Mean', 'p99 ≤, all', 'What it is'].map((t, i) => <th key={t} scope="col" class={i === 7 ? 'words' : ''}>{t}</th>)}</tr></thead>
        <tbody>{ROWS.map(({ key, title, what }) => {
          const recent = since(before[key], now[key]), all = countsOf(now[key]), guessed = key === 'accept' && sampled
          const per = took && !(key === 'accept' && uncounted) ? total(recent) / took : NaN
          const cell = (text: string) => about(text, guessed)
          return (
            <tr key={key} data-tcp={key} class={per ? '' : 'idle'}>
              <th scope="row">{title}</th><td data-col="rate">{cell(rate(per))}</td><td>{cell(duration(took ? quantile(recent, 0.5) : NaN))}</td><td>{cell(duration(took ? quantile(recent, 0.99) : NaN))}</td>
              <td data-col="all">{cell(total(all).toLocaleString('en-GB'))}</td><td data-col="mean">{cell(duration(mean(now[key])))}</td><td data-col="p99">{cell(duration(quantile(all, 0.99)))}</td><td class="words">{what}</td>
            </tr>
          )
        })}</tbody>
      </table>
      <Counters before={before} now={now} took={took} />
    </div>
  )
}

function Counters({ before, now, took }: { before: Network; now: Network; took: number }) {
  const rows: [string, number, number | undefined][] = [
    ...Object.entries(now.failed).map(([why, n]): [string, number, number | undefined] => ['connect failed: ' + why.replaceAll('_', ' '), n, before.failed[why]]),
    ...Object.entries(now.drops).map(([why, n]): [string, number, number | undefined] => ['packet dropped: ' + why.replaceAll('_', ' '), n, before.drops[why]]),
    ['resets received', now.resetsReceived, before.resetsReceived], ['resets sent', now.resetsSent, before.resetsSent],
  ]
  const shown = rows.filter(([, n]) => n > 0)
  if (!shown.length) return <p class="quiet pad">No failed connect, no dropped packet, no reset since its start.</p>
  return (
    <table class="calls">
      <thead><tr>{['What went wrong', 'Per second', 'In all'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
      <tbody>{shown.map(([what, n, was]) => {
        const per = took ? gained(was ?? 0, n) / took : NaN
        return <tr key={what} data-wrong={what} class={per ? '' : 'idle'}><th scope="row">{what}</th><td class={per > 0 ? 'alarm' : ''}>{rate(per)}</td><td data-col="all">{whole(n)}</td></tr>
      })}</tbody>
    </table>
  )
}
