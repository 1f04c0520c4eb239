package dockerapi

// listCache keeps what a listing can reuse.
type listCache struct{}
