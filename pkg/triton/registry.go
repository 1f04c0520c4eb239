package triton

import "time"

// RegistryAuth is how a client shows itself to a registry: user and password, or one of the tokens, or nothing.
// It prints without its secrets.
type RegistryAuth struct {
	Username, Password string
	// IdentityToken is what a login got in place of the password.
	IdentityToken string
	// RegistryToken is sent to the registry as it is.
	RegistryToken string
	// ServerAddress is the registry that the secrets are for; empty: the one of the image.
	ServerAddress string
}

// String names the user and the server.
func (a RegistryAuth) String() string { return a.Username + "@" + a.ServerAddress }

// GoString is String, so that %#v shows no secret either.
func (a RegistryAuth) GoString() string { return a.String() }

// PullRequest asks for images of a registry.
type PullRequest struct {
	// Ref is name:tag or name@digest; a name alone means all its tags.
	Ref string
	// Platform is os[/arch[/variant]]; empty: this machine's.
	Platform string
	Auth     RegistryAuth
}

// PushRequest sends images to the registry that their name says.
type PushRequest struct {
	// Ref is name:tag; a name alone means all its tags.
	Ref      string
	Platform string
	Auth     RegistryAuth
}

// ImportRequest says what is made of the tar of a root file system.
type ImportRequest struct {
	// Ref is the image's name; empty: none.
	Ref string
	// Message becomes the image's comment.
	Message string
	// Changes are Dockerfile lines for its config.
	Changes []string
	// Platform is os[/arch[/variant]]; empty: this machine's.
	Platform string
}

// ImageProgress is one line of docker's progress streams.
type ImageProgress struct {
	// ID is what the status is about: a short digest of a layer, a tag, or empty.
	ID     string
	Status string
	// Current and Total count bytes. Total 0: the status has no bar.
	Current, Total int64
	// Pushed is set in the line that says that a tag was pushed.
	Pushed *PushedImage
}

// PushedImage says what a registry has under a tag after a push.
type PushedImage struct {
	Tag, Digest string
	Size        int64 // bytes of the manifest
}

// ImageStep is one step of how an image was made. Steps that made no layer have size 0.
type ImageStep struct {
	ID        string // of the image, at its last step only
	Tags      []string
	Created   time.Time
	CreatedBy string
	Comment   string
	Size      int64 // bytes of the layer's files
}

// RegistryImage is what a registry says about a reference, without pulling it.
type RegistryImage struct {
	MediaType, Digest string
	Size              int64
	Platforms         []Platform
}

// Platform is what an image is made for.
type Platform struct{ OS, Architecture, Variant, OSVersion string }

// CommitRequest says what is made of a container's files.
type CommitRequest struct {
	Ref     string // the image's name; empty: none
	Author  string
	Message string       // becomes the image's comment
	Config  *ImageConfig // goes before what the container was run with; nil: none
	Changes []string     // Dockerfile lines, applied to Config, or without it to what the container was run with
	Pause   bool         // the container stands still meanwhile
}
