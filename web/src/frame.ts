// Redraws at most once per animation frame, however often data come.
import { signal } from '@preact/signals'

/** Grows when something that is not a signal has changed; views that draw such things read it. */
export const drawn = signal(0)
let asked = false

export function redraw(): void {
  if (asked) return
  asked = true
  requestAnimationFrame(() => {
    asked = false
    drawn.value++
  })
}

/** Grows each second, for ages. */
export const second = signal(0)
export const startClock = (): void => void setInterval(() => second.value++, 1000)
