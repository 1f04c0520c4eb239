// Redraws at most once per animation frame, however often data come.
import { signal } from '@preact/signals'

/** Grows when something that is not a signal has changed; views that draw such things read it. */
export const drawn = signal(0)
let asked = false

/** Grow one after the other, one an animation frame, after drawn: a long list is redrawn by parts, so that no frame has to
 * draw it all. */
export const parts = [signal(0), signal(0), signal(0)] as const

export function redraw(): void {
  if (asked) return
  asked = true
  requestAnimationFrame(() => {
    asked = false
    drawn.value++
    turn(0)
  })
}

let at = 0
function turn(part: number): void {
  at = part
  parts[part]!.value++
  // A turn that began anew meanwhile does the rest.
  if (part + 1 < parts.length) requestAnimationFrame(() => at === part && turn(part + 1))
}

/** Grows each second, for ages. */
export const second = signal(0)
export const startClock = (): void => void setInterval(() => second.value++, 1000)
