// The terminal is loaded when it is first opened: it is larger than the rest of the page.
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { Terminal } from './terminal'

export function LazyTerminal(p: { id: string; running: boolean }) {
  const view = useSignal<typeof Terminal | null>(null)
  const failed = useSignal(false)
  useEffect(() => {
    let there = true
    import('./terminal').then((m) => there && (view.value = m.Terminal), () => there && (failed.value = true))
    return () => void (there = false)
  }, [])
  if (failed.value) return <p class="error">The terminal could not be loaded. Reload the page.</p>
  const View = view.value
  return View ? <View {...p} /> : <p class="quiet" aria-busy="true">Loading the terminal…</p>
}
