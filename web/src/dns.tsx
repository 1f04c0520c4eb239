// What a container asks name servers, and what they answer: triton dns.
import { plainText, quantile } from './detail'
import { ago, DASH, duration, rate } from './format'
import { between, countsOf, gained, type Histogram, mean, since, useReadings } from './reading'
import { Refused } from './refused'

interface Name { name: string; type: string; asked: number; answered: number; missing: number; failed: number; unanswered: number; seconds: number; last: string }
interface DNS {
  at: string; roundTrip: Histogram; asked: number; askedTCP: number; answers: Record<string, number>; truncated: number; unanswered: number; untimed: number; unasked: number
  malformed: number; unfollowed: number; names: Name[]; other: number
}

/** Codes of answers that tell of no trouble. */
const FINE = new Set(['NOERROR', 'NXDOMAIN'])

export function DnsTab({ id }: { id: string }) {
  const readings = useReadings<DNS>(`containers/${id}/dns`, 2000).value
  const now = readings.all.at(-1), before = readings.all[0]
  if (!now || !before) return readings.problem ? <Refused why={readings.problem} /> : <p aria-busy="true" />
  const took = between(before, now), recent = since(before.roundTrip, now.roundTrip), all = countsOf(now.roundTrip)
  const tile = (title: string, text: string, more = '', bad = false) => <div key={title} data-dns={title} class={bad ? 'alarm' : ''}><dt>{title}</dt><dd><b>{text}</b> <small>{more}</small></dd></div>
  const count = (title: string, n: number) => n > 0 && tile(title, n.toLocaleString('en-GB'), '', title === 'Unanswered')
  return (
    <div class="scroll readings" tabIndex={0} role="region" aria-label="DNS, scrollable">
      {readings.problem && <Refused why={readings.problem} />}
      <dl class="tiles">
        {tile('Questions', now.asked.toLocaleString('en-GB'), took ? `${rate(gained(before.asked, now.asked) / took)}/s` : '')}
        {count('By TCP', now.askedTCP)}
        {tile('Round trip p50 ≤', duration(quantile(all, 0.5)), `last 5 s: ${duration(took ? quantile(recent, 0.5) : NaN)}`)}
        {tile('Round trip p99 ≤', duration(quantile(all, 0.99)), `last 5 s: ${duration(took ? quantile(recent, 0.99) : NaN)}`)}
        {tile('Mean', duration(mean(now.roundTrip)))}
        {Object.entries(now.answers).sort(([, a], [, b]) => b - a).map(([code, n]) => tile(code, n.toLocaleString('en-GB'), '', !FINE.has(code)))}
        {count('Unanswered', now.unanswered)}{count('Truncated', now.truncated)}{count('Not timed', now.untimed)}{count('Answers to none', now.unasked)}{count('Malformed', now.malformed)}{count('Connections not followed', now.unfollowed)}
      </dl>
      <table class="calls">
        <caption>Since its start; the 64 names asked for most. Seen are questions to port 53. Unanswered: asked again before an answer came, or none came in 5 s.</caption>
        <thead><tr>{['Name', 'Type', 'Asked', 'Answered', 'NXDOMAIN', 'Failed', 'Unanswered', 'Mean', 'Last'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
        <tbody>
          {now.names.map((n) => (
            <tr key={n.name + ' ' + n.type} data-name={plainText(n.name)}>
              <th scope="row">{plainText(n.name)}</th><td>{n.type}</td><td data-col="asked">{n.asked}</td><td>{n.answered}</td><td data-col="missing">{n.missing}</td>
              <td class={n.failed ? 'alarm' : ''}>{n.failed}</td><td class={n.unanswered ? 'alarm' : ''}>{n.unanswered}</td>
              <td data-col="mean">{n.answered ? duration(n.seconds / n.answered) : DASH}</td><td>{ago(Date.parse(now.at) - Date.parse(n.last))} ago</td>
            </tr>
          ))}
          {now.other > 0 && <tr class="idle"><th scope="row">other names</th><td /><td>{now.other}</td><td colSpan={6} /></tr>}
        </tbody>
      </table>
      {!now.names.length && <p class="quiet pad">It has not asked for a name yet.</p>}
    </div>
  )
}
