package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"sync"
)

// A raw key is PREFIX + RANDOM + CHECKSUM: "plabs_sk_live_", 256 random bits in base 62, and the CRC-32 of all that
// stands before it in base 62. The shape is that of GitHub's tokens: a mistyped or invented key is told from a real one
// without a look-up, and so do secret scanners.
const (
	randomBytes    = 32
	randomLength   = 43 // base-62 digits of 256 bits
	checksumLength = 6  // base-62 digits of 32 bits
	shownLength    = 4  // digits of the random part that a list shows
)

// Secret is a raw key. It prints and logs as its beginning only; Reveal returns it whole.
type Secret struct {
	raw   *string // behind a pointer, so that nothing that prints the fields prints it
	shown int     // how much of it may be seen
}

// Reveal returns the raw key, to be shown to its owner once.
func (s Secret) Reveal() string {
	if s.raw == nil {
		return ""
	}
	return *s.raw
}

// String returns what lists show: "plabs_sk_live_abc1...".
func (s Secret) String() string { return s.Reveal()[:s.shown] + "..." }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Format is how this installation's keys look.
type Format struct{ prefix string }

var (
	vendorShape      = regexp.MustCompile(`^[a-z][a-z0-9]{1,15}$`)
	environmentShape = regexp.MustCompile(`^(live|test)$`)
)

// NewFormat returns the format of keys such as "plabs_sk_live_...", for the vendor "plabs" and the environment "live".
func NewFormat(vendor, environment string) (Format, error) {
	if !vendorShape.MatchString(vendor) {
		return Format{}, fmt.Errorf("key vendor %q must be 2 to 16 lower-case letters and digits", vendor)
	}
	if !environmentShape.MatchString(environment) {
		return Format{}, fmt.Errorf("key environment %q must be live or test", environment)
	}
	return Format{prefix: vendor + "_sk_" + environment + "_"}, nil
}

// mint returns a new key from 256 bits of rand.
func (f Format) mint(rand io.Reader) (Secret, error) {
	var random [randomBytes]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return Secret{}, fmt.Errorf("read randomness: %w", err)
	}
	body := f.prefix + base62(new(big.Int).SetBytes(random[:]), randomLength)
	return f.secret(body + checksum(body)), nil
}

// parse returns the key if raw has this format and the right checksum.
func (f Format) parse(raw string) (Secret, bool) {
	if len(raw) != len(f.prefix)+randomLength+checksumLength || !strings.HasPrefix(raw, f.prefix) {
		return Secret{}, false
	}
	body := raw[:len(raw)-checksumLength]
	if raw[len(body):] != checksum(body) {
		return Secret{}, false
	}
	return f.secret(raw), true
}

func (f Format) secret(raw string) Secret {
	return Secret{shown: len(f.prefix) + shownLength, raw: &raw}
}

const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // as big.Int has them

func checksum(body string) string {
	var sum [checksumLength]byte
	rest := crc32.ChecksumIEEE([]byte(body))
	for i := checksumLength - 1; i >= 0; i-- {
		sum[i] = digits[rest%62]
		rest /= 62
	}
	return string(sum[:])
}

func base62(n *big.Int, length int) string {
	text := n.Text(62)
	return strings.Repeat("0", length-len(text)) + text
}

// Peppers are the secrets under which keys are hashed, by version. They live outside Postgres, so that a copy of the
// database can't even confirm a guess.
type Peppers struct {
	current  int32
	versions []int32
	secrets  map[int32][]byte
	// macs hold what an HMAC computes of its key alone, which is half of the work.
	macs map[int32]*sync.Pool
}

// minPepper is the least length of a pepper in bytes: that of the hash, as RFC 2104 advises.
const minPepper = sha256.Size

// NewPeppers returns peppers by their versions. New keys use the highest.
func NewPeppers(secrets map[int32][]byte) (*Peppers, error) {
	if len(secrets) == 0 {
		return nil, errors.New("there must be a pepper")
	}
	p := &Peppers{secrets: secrets, macs: map[int32]*sync.Pool{}}
	for version, secret := range secrets {
		if len(secret) < minPepper {
			return nil, fmt.Errorf("pepper %d has %d bytes, fewer than %d", version, len(secret), minPepper)
		}
		p.versions = append(p.versions, version)
		p.macs[version] = &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}
		p.current = max(p.current, version)
	}
	if p.current <= 0 {
		return nil, errors.New("pepper versions start at 1")
	}
	return p, nil
}

// Current returns the pepper that new keys use.
func (p *Peppers) Current() []byte { return p.secrets[p.current] }

// digest returns the key's HMAC-SHA-256 under one version of the pepper.
func (p *Peppers) digest(version int32, s Secret) digest {
	mac, _ := p.macs[version].Get().(hash.Hash)
	defer p.macs[version].Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, *s.raw)
	var d digest
	mac.Sum(d[:0])
	return d
}

func (p *Peppers) hash(version int32, s Secret) []byte {
	d := p.digest(version, s)
	return d[:]
}

// hashes returns the key's hash under each version of the pepper.
func (p *Peppers) hashes(s Secret) [][]byte {
	all := make([][]byte, len(p.versions))
	for i, version := range p.versions {
		all[i] = p.hash(version, s)
	}
	return all
}
