// What is said where there are no numbers.

/** The daemon's reason, as a sentence, with the flags in it set apart. */
export function Refused({ why }: { why: string }) {
  const words = why.slice(0, 1).toUpperCase() + why.slice(1)
  return <p class="quiet pad refused">{words.split(/(--[a-z][a-z-]*)/).map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part))}.</p>
}
