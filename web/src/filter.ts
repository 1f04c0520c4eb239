// The filter grammar of pkg/dashboard/filter.go; both sides test testdata/filter.json.
import { COL, TABLE_COLS, type RowMeta } from './wire'

export interface Term { not: boolean; key: string; op: string; text: string; num: number }
export type Parsed = { ok: true; terms: Term[]; canonical: string } | { ok: false; error: string }

const TEXT_KEYS = new Set(['name', 'image', 'id', 'state', 'label'])
export const NUMBER_KEYS: Record<string, number> = {
  cpu: COL.cpu, throttled: COL.throttled, mem: COL.memory, wait: COL.wait99, syscalls: COL.syscalls, errors: COL.errors, pids: COL.pids,
  restarts: TABLE_COLS,
}
const UNITS: [string, number][] = [['ms', 1e-3], ['us', 1e-6], ['k', 2 ** 10], ['M', 2 ** 20], ['G', 2 ** 30]]

export function parseFilter(q: string): Parsed {
  try {
    const terms = split(q).map(parseTerm)
    if (terms.length > 32) throw new Error('more than 32 terms')
    return { ok: true, terms, canonical: terms.map(show).join(' ') }
  } catch (e) {
    return { ok: false, error: e instanceof Error ? e.message : String(e) }
  }
}

function split(q: string): string[] {
  const words: string[] = []
  let word = '', quoted = false, begun = false
  for (const c of q) {
    if (c === '"') {
      quoted = !quoted
      begun = true
    } else if (c === ' ' && !quoted) {
      if (begun) words.push(word)
      word = ''
      begun = false
    } else {
      word += c
      begun = true
    }
  }
  if (quoted) throw new Error('a quote is not closed')
  if (begun) words.push(word)
  return words
}

function parseTerm(w: string): Term {
  const t: Term = { not: w.startsWith('-'), key: '', op: '', text: '', num: 0 }
  if (t.not) w = w.slice(1)
  const at = w.search(/[:<>]/)
  if (at < 0) {
    if (!w) throw new Error('an empty term')
    return { ...t, text: w }
  }
  t.key = w.slice(0, at)
  t.op = w.charAt(at)
  t.text = w.slice(at + 1)
  const number = Object.hasOwn(NUMBER_KEYS, t.key)
  if (t.op === ':' && TEXT_KEYS.has(t.key)) {
    if (!t.text) throw new Error(`${t.key}: needs a pattern`)
    const cut = t.text.indexOf('=')
    const pattern = t.key === 'label' ? (cut < 0 ? '' : t.text.slice(cut + 1)) : t.text
    if (/[[\\]/.test(pattern)) throw new Error(`pattern "${pattern}": only * and ? are special, [ and \\ are not allowed`)
    return t
  }
  if (t.op !== ':' && number) return { ...t, num: parseNumber(t.text) }
  if (number) throw new Error(`${t.key} is a number: use ${t.key}>1 or ${t.key}<1`)
  if (TEXT_KEYS.has(t.key)) throw new Error(`${t.key} is a text: use ${t.key}:pattern`)
  throw new Error(`"${t.key}" is nothing to filter by`)
}

function parseNumber(s: string): number {
  const unit = UNITS.find(([u]) => s.endsWith(u))
  const digits = unit ? s.slice(0, -unit[0].length) : s
  if (!/^(\d+\.?\d*|\.\d+)$/.test(digits)) throw new Error(`"${s}" is not a number`)
  return Number(digits) * (unit?.[1] ?? 1)
}

function show(t: Term): string {
  const w = (t.not ? '-' : '') + (t.key && t.key + t.op) + t.text
  return w.includes(' ') ? `"${w}"` : w
}

/** Whether a row passes; val gives the table's columns, NaN unknown. */
export function matches(terms: Term[], m: RowMeta, val: (col: number) => number): boolean {
  return terms.every((t) => holds(t, m, val) !== t.not)
}

function holds(t: Term, m: RowMeta, val: (col: number) => number): boolean {
  switch (t.key) {
    case '': return m.name.includes(t.text) || m.image.includes(t.text) || m.id.startsWith(t.text)
    case 'name': return glob(t.text, m.name)
    case 'image': return glob(t.text, m.image)
    case 'id': return glob(t.text, m.id)
    case 'state': return glob(t.text, m.status)
    case 'label': {
      const cut = t.text.indexOf('=')
      const v = m.labels?.[cut < 0 ? t.text : t.text.slice(0, cut)]
      return v !== undefined && (cut < 0 || glob(t.text.slice(cut + 1), v))
    }
  }
  const col = NUMBER_KEYS[t.key] ?? TABLE_COLS
  const v = col < TABLE_COLS ? val(col) : m.restarts
  return t.op === '>' ? v > t.num : v < t.num
}

const globs = new Map<string, RegExp>()
function glob(pattern: string, s: string): boolean {
  let re = globs.get(pattern)
  if (!re) {
    if (globs.size > 100) globs.clear()
    re = new RegExp('^' + pattern.replace(/[.*+?^${}()|[\]\\]/g, (c) => (c === '*' ? '.*' : c === '?' ? '.' : '\\' + c)) + '$', 'su')
    globs.set(pattern, re)
  }
  return re.test(s)
}
