// Package ids makes identifiers: a prefix that names the kind of thing, and a ULID, which sorts by the time it was made.
package ids

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Source makes ids. It is safe for concurrent use.
type Source struct {
	now func() time.Time

	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// NewSource returns a source of ids that are dated by now and random by rand.
func NewSource(now func() time.Time, rand io.Reader) *Source {
	return &Source{now: now, entropy: ulid.Monotonic(rand, 0)}
}

// New returns an id such as "key_01JA2Z3V4W5X6Y7Z8A9B0C1D2E". Of two ids from one source, the later sorts after the
// earlier, also within a millisecond.
func (s *Source) New(prefix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return prefix + "_" + ulid.MustNew(ulid.Timestamp(s.now()), s.entropy).String()
}

// Of returns the id of what its parts name, dated at: the same for the same parts, for ever.
func Of(prefix string, at time.Time, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return prefix + "_" + ulid.MustNew(ulid.Timestamp(at), bytes.NewReader(sum[:])).String()
}
