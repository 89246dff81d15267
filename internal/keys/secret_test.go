package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func newFormat(t testing.TB, vendor, environment string) Format {
	t.Helper()
	format, err := NewFormat(vendor, environment)
	require.NoError(t, err)
	return format
}

func mint(t testing.TB, f Format, entropy io.Reader) Secret {
	t.Helper()
	secret, err := f.mint(entropy)
	require.NoError(t, err)
	return secret
}

func TestMint(t *testing.T) {
	t.Parallel()
	f := newFormat(t, "plabs", "live")

	t.Run("has the documented shape", func(t *testing.T) {
		t.Parallel()
		for range 200 {
			secret := mint(t, f, rand.Reader)
			require.Regexp(t, `^plabs_sk_live_[0-9A-Za-z]{49}$`, secret.Reveal())
			require.Equal(t, secret.Reveal()[:len("plabs_sk_live_")+4]+"...", secret.String())
			again, ok := f.parse(secret.Reveal())
			require.True(t, ok)
			require.Equal(t, secret, again)
		}
	})
	t.Run("the checksum is the CRC-32 of what is before it", func(t *testing.T) {
		t.Parallel()
		raw := mint(t, f, rand.Reader).Reveal()
		require.Equal(t, int64(crc32.ChecksumIEEE([]byte(raw[:len(raw)-6]))), decode(t, raw[len(raw)-6:]).Int64())
	})
	t.Run("holds all of the entropy, in 43 digits", func(t *testing.T) {
		t.Parallel()
		samples := [][]byte{
			make([]byte, 32), bytes.Repeat([]byte{0xff}, 32), append(make([]byte, 31), 1), append([]byte{1}, make([]byte, 31)...),
		}
		for range 200 {
			random := make([]byte, 32)
			_, _ = rand.Read(random)
			samples = append(samples, random)
		}
		for _, entropy := range samples {
			raw := mint(t, f, bytes.NewReader(entropy)).Reveal()
			digits := raw[len("plabs_sk_live_") : len(raw)-6]
			require.Len(t, digits, 43)
			require.Equal(t, entropy, decode(t, digits).FillBytes(make([]byte, 32)))
		}
	})
	t.Run("takes 32 bytes and nothing else from its source", func(t *testing.T) {
		t.Parallel()
		source := bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 4))
		first, second := mint(t, f, source), mint(t, f, source)
		require.Equal(t, first, second)
		require.Zero(t, source.Len())
		require.Equal(t, "plabs_sk_live_bqwEeNKTnxFUbYh0YgSVgxehvKGtx4EkQg7J1S9LLU21wi9fb", first.Reveal())
	})
	t.Run("fails where there is too little of it", func(t *testing.T) {
		t.Parallel()
		_, err := f.mint(bytes.NewReader(make([]byte, 31)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

// decode reads base-62 digits, most significant first, without the code under test.
func decode(t testing.TB, digits string) *big.Int {
	t.Helper()
	n := new(big.Int)
	for _, digit := range digits {
		value := strings.IndexRune(alphabet, digit)
		require.GreaterOrEqual(t, value, 0, digits)
		n.Add(n.Mul(n, big.NewInt(62)), big.NewInt(int64(value)))
	}
	return n
}

// What fingers and clipboards do to a key is told without a look-up.
func TestParseRefusesMistypedKeys(t *testing.T) {
	t.Parallel()
	f := newFormat(t, "plabs", "live")
	for sample := range 4 {
		raw := mint(t, f, bytes.NewReader(bytes.Repeat([]byte{byte(37*sample + 1), byte(sample)}, 16))).Reveal()
		tried := 0
		refuse := func(mistyped string) {
			t.Helper()
			if mistyped == raw {
				return
			}
			tried++
			_, ok := f.parse(mistyped)
			require.False(t, ok, "%s for %s", mistyped, raw)
		}
		for i := range raw {
			for _, c := range []byte(alphabet + "_-. \x00") {
				refuse(raw[:i] + string([]byte{c}) + raw[i+1:])
				refuse(raw[:i] + string([]byte{c}) + raw[i:])
			}
			refuse(raw[:i] + raw[i+1:])
			refuse(raw[:i])
			refuse(raw[i+1:])
			if i > 0 {
				refuse(raw[:i-1] + string([]byte{raw[i], raw[i-1]}) + raw[i+1:])
			}
		}
		require.Greater(t, tried, 2*len(raw)*len(alphabet))
		for _, mistyped := range []string{
			raw + "0", raw + "\n", " " + raw, strings.ToUpper(raw), strings.ToLower(raw), raw + raw,
			strings.Replace(raw, "plabs", "plabz", 1), strings.Replace(raw, "_live_", "_test_", 1),
		} {
			refuse(mistyped)
		}
	}
}

func TestParseRefusesKeysOfOthers(t *testing.T) {
	t.Parallel()
	f := newFormat(t, "plabs", "live")
	for _, other := range []Format{newFormat(t, "plabs", "test"), newFormat(t, "acmes", "live"), newFormat(t, "acme", "live")} {
		_, ok := f.parse(mint(t, other, rand.Reader).Reveal())
		require.False(t, ok, other.prefix)
	}
}

// hidden is all of a secret that a list does not show.
func hidden(s Secret) string { return s.Reveal()[len("plabs_sk_live_")+4:] }

// However a secret is printed, encoded or logged, alone or inside of something, the raw key does not show.
func TestSecretDoesNotShow(t *testing.T) {
	t.Parallel()
	secret := mint(t, newFormat(t, "plabs", "live"), rand.Reader)
	type holder struct {
		Name   string
		Secret Secret
	}
	values := map[string]any{
		"secret": secret, "pointer": &secret, "holder": holder{"A", secret}, "pointer to holder": &holder{"A", secret},
		"created": Created{ID: "key_1", Secret: secret}, "row": newRow{secret: secret},
		"slice": []Secret{secret}, "map": map[string]Secret{"a": secret}, "any": map[string]any{"a": secret},
		"error": fmt.Errorf("no: %v", secret),
	}
	outputs := map[string]string{}
	for name, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X"} {
			outputs[verb+" of "+name] = fmt.Sprintf(verb, value)
		}
		encoded, err := json.Marshal(value)
		require.NoError(t, err)
		outputs["json of "+name] = string(encoded)
		var text, jsonText bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "value", value)
		slog.New(slog.NewJSONHandler(&jsonText, nil)).Info("m", "value", value)
		outputs["slog text of "+name], outputs["slog json of "+name] = text.String(), jsonText.String()
	}
	for name, output := range outputs {
		requireHidden(t, secret, output, name)
	}
	require.Equal(t, secret.String(), fmt.Sprint(secret))
	require.Equal(t, secret.String(), fmt.Sprintf("%#v", secret))
	require.Equal(t, fmt.Sprintf("%q", secret.String()), fmt.Sprintf("%q", secret))
	require.Contains(t, outputs["slog json of secret"], secret.String())
	require.Contains(t, outputs["slog text of secret"], secret.String())
}

// fmt can't call the methods of a value in an unexported field, nor does it for verbs that are not for text: it prints
// what it finds there. Nothing is to be found.
func TestSecretDoesNotShow_withoutItsMethods(t *testing.T) {
	t.Parallel()
	secret := mint(t, newFormat(t, "plabs", "live"), rand.Reader)
	type holder struct{ inner Secret }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		requireHidden(t, secret, fmt.Sprintf(verb, holder{secret}), verb+" of an unexported field")
	}
	for _, verb := range []string{"%d", "%t", "%f"} {
		requireHidden(t, secret, fmt.Sprintf(verb, secret), verb)
	}
	var text bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "value", holder{secret})
	requireHidden(t, secret, text.String(), "slog")
}

func requireHidden(t *testing.T, secret Secret, output, how string) {
	t.Helper()
	require.NotContains(t, output, hidden(secret), how)
	require.NotContains(t, strings.ToLower(output), fmt.Sprintf("%x", hidden(secret)), how)
}

func TestNewFormat(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{{"ab", "live"}, {"plabs", "test"}, {"a234567890123456", "live"}} {
		f, err := NewFormat(c[0], c[1])
		require.NoError(t, err)
		require.Equal(t, c[0]+"_sk_"+c[1]+"_", f.prefix)
	}
	for _, vendor := range []string{"", "a", "a2345678901234567", "Plabs", "1plabs", "pl abs", "pl_abs", "plábs", "plabs\n"} {
		_, err := NewFormat(vendor, "live")
		require.ErrorContains(t, err, "vendor", "%q", vendor)
	}
	for _, environment := range []string{"", "prod", "LIVE", "live ", "live\n", "livetest"} {
		_, err := NewFormat("plabs", environment)
		require.ErrorContains(t, err, "environment", "%q", environment)
	}
}

func TestNewPeppers(t *testing.T) {
	t.Parallel()
	pepper := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	for name, c := range map[string]struct {
		secrets map[int32][]byte
		says    string
	}{
		"none":                   {nil, "there must be a pepper"},
		"too short":              {map[int32][]byte{1: pepper(1, 31)}, "pepper 1 has 31 bytes"},
		"empty":                  {map[int32][]byte{1: {}}, "pepper 1 has 0 bytes"},
		"an old one too short":   {map[int32][]byte{1: pepper(1, 8), 2: pepper(2, 32)}, "pepper 1 has 8 bytes"},
		"version 0":              {map[int32][]byte{0: pepper(1, 32)}, "versions start at 1"},
		"versions below 1 alone": {map[int32][]byte{0: pepper(1, 32), -3: pepper(2, 32)}, "versions start at 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewPeppers(c.secrets)
			require.ErrorContains(t, err, c.says)
		})
	}
	t.Run("the highest is current", func(t *testing.T) {
		t.Parallel()
		p, err := NewPeppers(map[int32][]byte{7: pepper(7, 32), 3: pepper(3, 64), 5: pepper(5, 33)})
		require.NoError(t, err)
		require.Equal(t, pepper(7, 32), p.Current())
	})
	t.Run("an error shows no secret", func(t *testing.T) {
		t.Parallel()
		_, err := NewPeppers(map[int32][]byte{1: []byte("a-short-pepper")})
		require.NotContains(t, err.Error(), "a-short-pepper")
	})
}

// FuzzParse looks for text that makes parse panic, or that it takes although no key prints so.
func FuzzParse(f *testing.F) {
	format := newFormat(f, "plabs", "live")
	valid := mint(f, format, bytes.NewReader(bytes.Repeat([]byte{5}, 32))).Reveal()
	for _, seed := range []string{
		valid, valid[1:], valid[:len(valid)-1], valid + "0", "", "plabs_sk_live_", strings.Repeat("é", 32),
		"plabs_sk_live_" + strings.Repeat("0", 49), strings.Repeat("\x00", len(valid)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		secret, ok := format.parse(raw)
		if !ok {
			require.Equal(t, Secret{}, secret)
			return
		}
		require.Equal(t, raw, secret.Reveal())
		digits := raw[len(format.prefix) : len(raw)-checksumLength]
		entropy, ok := new(big.Int).SetString(digits, 62)
		require.True(t, ok, "accepted digits that are none: %q", raw)
		require.LessOrEqual(t, entropy.BitLen(), 256, "accepted what no entropy makes: %q", raw)
		require.Equal(t, secret, mint(t, format, bytes.NewReader(entropy.FillBytes(make([]byte, randomBytes)))))
	})
}
