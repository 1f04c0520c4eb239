// The URL holds the whole visible state; a history entry is made only for a change of view.
import { computed, signal } from '@preact/signals'

export const TABS = ['syscalls', 'waits', 'disks', 'network', 'dns', 'trace', 'profile', 'events', 'ends', 'logs', 'exec'] as const
export type Tab = typeof TABS[number]
export type View = { name: 'containers' } | { name: 'container'; id: string; tab: Tab } | { name: 'map' } | { name: 'crashes' } | { name: 'crash'; id: string } | { name: 'ask' } | { name: 'cost' } | { name: 'unknown' }

interface Place { path: string; params: URLSearchParams }
const here = (): Place => ({ path: location.pathname, params: new URLSearchParams(location.search) })
export const place = signal<Place>(here())

export const view = computed<View>(() => {
  const [first, id, tab] = place.value.path.split('/').filter(Boolean)
  if (first === undefined || (first === 'c' && id === undefined)) return { name: 'containers' }
  if (first === 'c' && id) return { name: 'container', id: decodeURIComponent(id), tab: TABS.find((t) => t === tab) ?? 'syscalls' }
  if (first === 'map') return { name: 'map' }
  if (first === 'crashes') return id ? { name: 'crash', id: decodeURIComponent(id) } : { name: 'crashes' }
  if (first === 'ask' && id === undefined) return { name: 'ask' }
  if (first === 'cost' && id === undefined) return { name: 'cost' }
  return { name: 'unknown' }
})

export const param = (name: string): string => place.value.params.get(name) ?? ''

/** Changes parameters in place; '' removes one. */
export function setParams(change: Record<string, string>): void {
  const params = new URLSearchParams(place.value.params)
  for (const [k, v] of Object.entries(change)) v ? params.set(k, v) : params.delete(k)
  go(place.value.path, params, true)
}

/** Goes to another view. The filter, the order and the time stay. */
export function open(path: string, replace = false): void {
  go(path, place.value.params, replace)
}

export const href = (path: string): string => {
  const search = place.value.params.toString()
  return path + (search && '?' + search)
}

function go(path: string, params: URLSearchParams, replace: boolean): void {
  const search = params.toString()
  history[replace ? 'replaceState' : 'pushState'](null, '', path + (search && '?' + search))
  place.value = here()
}

export const startRoute = (): void => window.addEventListener('popstate', () => (place.value = here()))

/** The moment that is shown, ms; 0: now. */
export const pausedAt = computed(() => Number(place.value.params.get('t')) || 0)
/** Seconds on the time axis. */
export const span = computed(() => ({ '5m': 300, '10m': 600 })[place.value.params.get('w') ?? ''] ?? 60)
