// Numbers as people read them. Unknown ones are a dash, never 0.
export const DASH = '–'

const digits = (v: number): string => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2))

export const cores = (v: number): string => (Number.isNaN(v) ? DASH : v.toFixed(2))
export const percent = (v: number): string => (Number.isNaN(v) ? DASH : v === 0 ? '0' : (v * 100).toFixed(v < 0.1 ? 1 : 0) + ' %')
export const whole = (v: number): string => (Number.isNaN(v) ? DASH : v.toFixed(0))

export function bytes(v: number): string {
  if (Number.isNaN(v)) return DASH
  for (const u of ['B', 'KiB', 'MiB', 'GiB']) {
    if (v < 1024) return (u === 'B' ? v.toFixed(0) : digits(v)) + ' ' + u
    v /= 1024
  }
  return digits(v) + ' TiB'
}

export function rate(v: number): string {
  if (Number.isNaN(v)) return DASH
  if (v === 0) return '0'
  if (v < 1000) return v < 0.01 ? '<0.01' : v < 10 ? v.toFixed(2) : v.toFixed(0)
  if (v < 1e6) return digits(v / 1e3) + 'k'
  return digits(v / 1e6) + 'M'
}

/** Marks an estimate; what is unknown stays a dash. */
export const about = (text: string, estimated: boolean | undefined): string => (estimated && text !== DASH && text !== '0' ? '~' + text : text)

export function duration(s: number): string {
  if (Number.isNaN(s)) return DASH
  if (s < 1e-6) return (s * 1e9).toFixed(0) + ' ns'
  if (s < 1e-3) return digits(s * 1e6) + ' µs'
  if (s < 1) return digits(s * 1e3) + ' ms'
  return digits(s) + ' s'
}

export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 60) return s + ' s'
  if (s < 3600) return Math.floor(s / 60) + ' min'
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor((s % 3600) / 60) + ' min'
  return Math.floor(s / 86400) + ' d ' + Math.floor((s % 86400) / 3600) + ' h'
}

export const clock = (ms: number): string => new Date(ms).toLocaleTimeString('en-GB')
/** With the day, of what may be long ago. */
export const moment = (ms: number): string => new Date(ms).toLocaleDateString('en-CA') + ' ' + clock(ms)
export const clockMillis = (ms: number): string => clock(ms) + '.' + String(Math.floor(ms) % 1000).padStart(3, '0')
