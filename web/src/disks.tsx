// What block devices did for a container: triton disks.
import { quantile } from './detail'
import { bytes, duration, rate } from './format'
import { between, countsOf, gained, type Histogram, mean, type Readings, since } from './reading'
import { Refused } from './refused'

export interface Disk { device: string; operation: string; requests: number; bytes: number; durations: Histogram; untimed?: number }
export interface Disks { at: string; disks: Disk[] }

const keyOf = (d: Disk): string => d.operation + ' ' + d.device

/** What each device gained, in the order of the later reading. */
export function gains(before: Disks | undefined, now: Disks): { disk: Disk; was: Disk | undefined }[] {
  const had = new Map(before?.disks.map((d) => [keyOf(d), d]))
  return now.disks.map((disk) => ({ disk, was: had.get(keyOf(disk)) }))
}

export function DisksTab({ readings, unmeasured }: { readings: Readings<Disks>; unmeasured: boolean }) {
  const now = readings.all.at(-1), before = readings.all[0]
  if (unmeasured) return <p class="quiet pad">Block I/O is not measured here: the kernel refused the program.</p>
  if (!now || !before) return readings.problem ? <Refused why={readings.problem} /> : <p aria-busy="true" />
  if (!now.disks.length) return <p class="quiet pad">No request to a block device yet. What is in the page cache needs none, and what is written goes to the device later.</p>
  const took = between(before, now)
  return (
    <div class="scroll readings" tabIndex={0} role="region" aria-label="Disks, scrollable">
      {readings.problem && <Refused why={readings.problem} />}
      <table class="calls">
        <caption>Rates, p50 and p99 are of the last 5 s, mean and all since its start. Quantiles are upper bounds of buckets, four for each power of two. A request&rsquo;s
          time is from its making, before any I/O scheduler, to its end.</caption>
        <thead><tr>{['Device', 'Requests/s', 'Bytes/s', 'p50 ≤', 'p99 ≤', 'Requests', 'Bytes', 'Mean', 'p99 ≤, all'].map((t) => <th key={t} scope="col">{t}</th>)}</tr></thead>
        <tbody>{gains(before, now).map(({ disk: d, was }) => {
          const recent = since(was?.durations, d.durations), all = countsOf(d.durations)
          const per = (a: number | undefined, b: number) => (took ? gained(a, b) / took : NaN)
          const requests = per(was?.requests, d.requests)
          return (
            <tr key={keyOf(d)} data-disk={`${d.device} ${d.operation}`} class={requests ? '' : 'idle'}>
              <th scope="row">{d.device} {d.operation}</th><td data-col="rate">{rate(requests)}</td><td data-col="bytes">{bytes(per(was?.bytes, d.bytes))}</td>
              <td>{duration(took ? quantile(recent, 0.5) : NaN)}</td><td>{duration(took ? quantile(recent, 0.99) : NaN)}</td>
              <td data-col="requests">{d.requests.toLocaleString('en-GB')}</td><td data-col="all">{bytes(d.bytes)}</td>
              <td>{duration(mean(d.durations))}</td><td data-col="p99">{duration(quantile(all, 0.99))}</td>
            </tr>
          )
        })}</tbody>
      </table>
      {now.disks.filter((d) => d.untimed).map((d) => <p key={keyOf(d)} class="quiet pad">{d.device} {d.operation}: {d.untimed!.toLocaleString('en-GB')} requests have no time, since the device keeps no statistics.</p>)}
    </div>
  )
}
