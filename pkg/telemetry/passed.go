package telemetry

// Passed returns a channel that is closed when the next pass over all containers has ended: a reader of Last wakes once
// per interval, when there is something new, and not by a clock of its own.
func (s *Store) Passed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passed
}

// endPass wakes those who wait for a pass.
func (s *Store) endPass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.passed)
	s.passed = make(chan struct{})
}
