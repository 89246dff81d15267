package plans

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// another is a catalogue that an operator may put in place of ours.
const another = `
tiers:
  - tier: free
    name: Trial
    monthlyPrice: "0"
    monthlyCredits: 10
  - tier: starter
    name: Small
    monthlyPrice: "9.50"
    monthlyCredits: 100
    stripeLookupKey: small
  - tier: pro
    name: Medium
    monthlyPrice: "19.99"
    monthlyCredits: 1000
    overageRate: "0.000001"
    carryoverMonths: 12
    stripeLookupKey: medium
  - tier: scale
    name: Large
    monthlyPrice: "1000"
    monthlyCredits: 1000000000000000
    overageRate: "1000"
    stripeLookupKey: large
prices:
  tts: {unit: 100, providers: {mine: {input: 1}}}
  stt: {unit: 1, providers: {default: {input: 3}}}
  llm: {unit: 1000000, providers: {mine: {input: 7, output: 1000000000}}}
  rag: {unit: 10, providers: {default: {input: 0}}}
`

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(another))
	require.NoError(t, err)
	for _, want := range []Plan{
		{Free, "Trial", "0", 10, 0, true, 0, ""},
		{Starter, "Small", "9.50", 100, 0, true, 0, "small"}, // a paid plan may be capped
		{Pro, "Medium", "19.99", 1000, 1, false, 12, "medium"},
		{Scale, "Large", "1000", 1e15, 1e9, false, 0, "large"},
	} {
		require.Equal(t, want, c.Plan(want.Tier))
	}
	require.Equal(t, "Medium ($19.99/mo)", c.Plan(Pro).Display())
	require.Equal(t, 7*24*time.Hour, c.Grace())
	_, sold := c.TopUp()
	require.False(t, sold)
	tier, ok := c.TierOf("medium")
	require.True(t, ok)
	require.Equal(t, Pro, tier)
	_, ok = c.TierOf("keymeter_pro_monthly")
	require.False(t, ok, "nothing of the embedded catalogue is left")
	for _, p := range []struct {
		usage Usage
		want  int64
	}{
		{Usage{TTS, "mine", 101, 0}, 2},
		{Usage{STT, "", 4, 0}, 12},
		{Usage{LLM, "mine", 0, 1}, 1000},
		{Usage{RAG, "", 1_000_000, 0}, 0}, // free of charge
	} {
		got, err := c.Price(p.usage)
		require.NoError(t, err)
		require.Equal(t, p.want, got)
	}
	_, err = c.Price(Usage{TTS, "kokoro", 1, 0})
	require.Error(t, err)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "catalogue.yaml")
	require.NoError(t, os.WriteFile(path, []byte(another), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, "Medium", c.Plan(Pro).Name)
	_, err = Load(path + ".missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "plan catalogue")
	_, err = Load(t.TempDir())
	require.Error(t, err)
}

func TestParseRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		old, new string   // what of the valid catalogue is replaced
		says     []string // what the error names
	}{
		{"a missing tier", "  - tier: pro\n", "  - tier: max\n", []string{`tier "pro" is missing`}},
		{"a tier too many", "prices:", "  - {tier: max, name: M, monthlyPrice: '1', monthlyCredits: 1, stripeLookupKey: max}\nprices:", []string{"the tiers are free, starter, pro and scale"}},
		{"a tier twice", "  - tier: pro\n", "  - tier: starter\n", []string{`tier "starter"`, "twice"}},
		{"a lookup key twice", "stripeLookupKey: medium", "stripeLookupKey: small", []string{`stripeLookupKey "small"`, "twice"}},
		{"no lookup key", "    stripeLookupKey: medium\n", "", []string{`tier "pro"`, "stripeLookupKey"}},
		{"an unknown field of a tier", "    carryoverMonths: 12", "    carryover: 12", []string{"carryover"}},
		{"an unknown field of a price", "{mine: {input: 1}}", "{mine: {inputs: 1}}", []string{"inputs"}},
		{"an unknown field", "prices:", "currency: eur\nprices:", []string{"currency"}},
		{"a field twice", `    name: Medium`, "    name: Medium\n    name: Other", []string{"name"}},
		{"no name", `    name: Medium`, `    name: ""`, []string{`tier "pro"`, "name is missing"}},
		{"no price", `    monthlyPrice: "19.99"`, `    monthlyPrice: ""`, []string{`tier "pro"`, "monthlyPrice"}},
		{"a price of words", `"19.99"`, `"much"`, []string{`tier "pro"`, `monthlyPrice "much"`}},
		{"a negative price", `"19.99"`, `"-1"`, []string{`tier "pro"`, `monthlyPrice "-1"`}},
		{"no credits", "monthlyCredits: 1000\n", "monthlyCredits: 0\n", []string{`tier "pro"`, "monthlyCredits"}},
		{"negative credits", "monthlyCredits: 1000\n", "monthlyCredits: -1\n", []string{`tier "pro"`, "monthlyCredits"}},
		{"too many credits", "1000000000000000", "1000000000000001", []string{`tier "scale"`, "monthlyCredits"}},
		{"credits of words", "monthlyCredits: 1000\n", "monthlyCredits: many\n", []string{"monthlyCredits"}},
		{"overage in half micro-dollars", `"0.000001"`, `"0.0000005"`, []string{`tier "pro"`, `overageRate "0.0000005"`, "micro-dollars"}},
		{"overage with a fraction of them", `"0.000001"`, `"0.0008001"`, []string{`tier "pro"`, `overageRate "0.0008001"`}},
		{"free overage", `"0.000001"`, `"0"`, []string{`tier "pro"`, `overageRate "0"`}},
		{"negative overage", `"0.000001"`, `"-0.001"`, []string{`tier "pro"`, `overageRate "-0.001"`}},
		{"overage of words", `"0.000001"`, `"cheap"`, []string{`tier "pro"`, `overageRate "cheap"`}},
		{"dear overage", `"1000"` + "\n    stripe", `"1000.000001"` + "\n    stripe", []string{`tier "scale"`, "overageRate"}},
		{"overage for free", "    monthlyCredits: 10\n", "    monthlyCredits: 10\n    overageRate: '0.001'\n", []string{"free", "overageRate"}},
		{"negative carryover", "carryoverMonths: 12", "carryoverMonths: -1", []string{`tier "pro"`, "carryoverMonths"}},
		{"endless carryover", "carryoverMonths: 12", "carryoverMonths: 121", []string{`tier "pro"`, "carryoverMonths"}},
		{"a negative grace", "prices:", "graceDays: -1\nprices:", []string{"graceDays"}},
		{"an endless grace", "prices:", "graceDays: 91\nprices:", []string{"graceDays"}},
		{"top-ups for nothing", "prices:", "topUp: {pricePerThousandCredits: '0', minCredits: 1000, maxCredits: 2000}\nprices:", []string{"topUp", "pricePerThousandCredits"}},
		{"top-ups in half cents", "prices:", "topUp: {pricePerThousandCredits: '0.005', minCredits: 1000, maxCredits: 2000}\nprices:", []string{"topUp", "cents"}},
		{"top-ups of a part of a thousand", "prices:", "topUp: {pricePerThousandCredits: '1', minCredits: 1500, maxCredits: 2000}\nprices:", []string{"minCredits"}},
		{"top-ups without bounds", "prices:", "topUp: {pricePerThousandCredits: '1'}\nprices:", []string{"minCredits"}},
		{"top-ups the wrong way round", "prices:", "topUp: {pricePerThousandCredits: '1', minCredits: 3000, maxCredits: 2000}\nprices:", []string{"minCredits"}},
		{"top-ups beyond what Stripe takes", "prices:", "topUp: {pricePerThousandCredits: '1000', minCredits: 1000, maxCredits: 1000000}\nprices:", []string{"maxCredits"}},
		{"a missing category", "  stt: ", "  speech: ", []string{`"stt"`, "missing"}},
		{"a category too many", "  rag: ", "  speech: {unit: 1, providers: {default: {input: 1}}}\n  rag: ", []string{"tts, stt, llm and rag"}},
		{"a category without providers", "{unit: 1, providers: {default: {input: 3}}}", "{unit: 1}", []string{`"stt"`, "missing"}},
		{"no unit", "{unit: 1, ", "{", []string{`"stt"`, "unit"}},
		{"a negative unit", "{unit: 1, ", "{unit: -1, ", []string{`"stt"`, "unit"}},
		{"a negative rate", "{mine: {input: 1}}", "{mine: {input: -1}}", []string{"tts/mine"}},
		{"a rate too high", "1000000000}", "1000000001}", []string{"llm/mine"}},
		{"no YAML", "prices:", "prices", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 1, strings.Count(another, c.old), "what is replaced is there once")
			_, err := Parse([]byte(strings.Replace(another, c.old, c.new, 1)))
			require.Error(t, err)
			for _, says := range append(c.says, "plan catalogue") {
				require.ErrorContains(t, err, says)
			}
		})
	}
	for name, source := range map[string]string{"empty": "", "no tiers": "prices: {}", "a list": "- a", "null": "null"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(source))
			require.ErrorContains(t, err, "plan catalogue")
		})
	}
	t.Run("all that is wrong is said at once", func(t *testing.T) {
		t.Parallel()
		_, err := Parse([]byte(strings.NewReplacer("tier: pro", "tier: max", "unit: 100,", "unit: 0,").Replace(another)))
		require.ErrorContains(t, err, `tier "pro" is missing`)
		require.ErrorContains(t, err, `"tts"`)
	})
}

// A number that is not whole where a whole one is needed is an operator's mistake. Rounded, it would be a price that
// nobody wrote.
func TestParseRefusesFractions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new string }{
		{"of a credit", "monthlyCredits: 1000\n", "monthlyCredits: 1000.5\n"},
		{"of a rate", "{mine: {input: 1}}", "{mine: {input: 1.5}}"},
		{"of an output rate", "{input: 7, output: 1000000000}", "{input: 7, output: 0.3}"},
		{"of a unit", "{unit: 100, ", "{unit: 100.5, "},
		{"of a month", "carryoverMonths: 12", "carryoverMonths: 1.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 1, strings.Count(another, c.old), "what is replaced is there once")
			_, err := Parse([]byte(strings.Replace(another, c.old, c.new, 1)))
			require.Error(t, err)
		})
	}
}

// A price is shown as it is written, so it has to be written as people write prices.
func TestParseRefusesPricesThatAreNoDecimals(t *testing.T) {
	t.Parallel()
	for _, price := range []string{"1/3", "1e2", "0x10", "1_000", "+5", "Inf"} {
		t.Run(price, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(strings.Replace(another, `"19.99"`, `"`+price+`"`, 1)))
			require.ErrorContains(t, err, "monthlyPrice")
		})
	}
}

// What is beyond the first document would be passed over.
func TestParseRefusesASecondDocument(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte(another + "\n---\ntiers: []\n"))
	require.Error(t, err)
}
