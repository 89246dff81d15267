package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/keymeter/keymeter/internal/fault"
)

// contractURL is where the contract stands for the compiler of its schemas, which are JSON Schema 2020-12.
const contractURL = "keymeter:contract"

func newSchemaCompiler(contractJSON []byte) (*jsonschema.Compiler, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(contractJSON))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	// As strict as the decoding that follows it, so that what passes here is decoded.
	compiler.RegisterFormat(&jsonschema.Format{Name: "date-time", Validate: func(v any) error {
		s, ok := v.(string)
		if !ok {
			return nil
		}
		_, err := time.Parse(time.RFC3339, s)
		return err
	}})
	compiler.AssertFormat()
	return compiler, compiler.AddResource(contractURL, doc)
}

// pointer returns the address of a part of the contract.
func pointer(parts ...string) string {
	var p strings.Builder
	p.WriteString(contractURL + "#")
	for _, part := range parts {
		p.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	return p.String()
}

// parameterValue is a parameter's text as the JSON value that its schema is about.
func parameterValue(schema *jsonschema.Schema, text string) any {
	for schema.Ref != nil {
		schema = schema.Ref
	}
	if schema.Types != nil && schema.Types.ToStrings()[0] == "integer" && json.Valid([]byte(text)) {
		return json.Number(text)
	}
	return text
}

// maxFieldErrors is how many fields a problem names. The contract bounds it.
const maxFieldErrors = 100

// complaints says which fields of a value are off its schema, and how. root names the value itself.
func complaints(root string, err error) []fault.Field {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []fault.Field{{Name: root, Message: "is not valid"}}
	}
	fields := leaves(root, invalid)
	if len(fields) > maxFieldErrors {
		fields = fields[:maxFieldErrors]
	}
	return fields
}

func leaves(root string, e *jsonschema.ValidationError) []fault.Field {
	if _, ok := e.ErrorKind.(*kind.OneOf); ok && len(e.Causes) > 0 {
		return leaves(root, meant(e.Causes))
	}
	if k, ok := e.ErrorKind.(*kind.PropertyNames); ok { // its causes are about the name, and don't tell whose it is
		return each(root, e.InstanceLocation, []string{k.Property}, "has a name that is not allowed")
	}
	if len(e.Causes) == 0 {
		return complaint(root, e)
	}
	var fields []fault.Field
	for _, cause := range e.Causes {
		fields = append(fields, leaves(root, cause)...)
	}
	return fields
}

// meant returns the alternative that a value seems to be meant as: the one to which most of its fields are known.
func meant(alternatives []*jsonschema.ValidationError) *jsonschema.ValidationError {
	best, fewest := alternatives[0], unknownFields(alternatives[0], len(alternatives[0].InstanceLocation))
	for _, a := range alternatives[1:] {
		if n := unknownFields(a, len(a.InstanceLocation)); n < fewest {
			best, fewest = a, n
		}
	}
	return best
}

func unknownFields(e *jsonschema.ValidationError, depth int) int {
	n := 0
	if k, ok := e.ErrorKind.(*kind.AdditionalProperties); ok && len(e.InstanceLocation) == depth {
		n = len(k.Properties)
	}
	for _, cause := range e.Causes {
		n += unknownFields(cause, depth)
	}
	return n
}

// complaint says what is wrong with a field, without repeating its value.
func complaint(root string, e *jsonschema.ValidationError) []fault.Field {
	at := fieldName(root, e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		return each(root, e.InstanceLocation, k.Missing, "is required")
	case *kind.AdditionalProperties:
		return each(root, e.InstanceLocation, k.Properties, "is not a field of this request")
	default:
		return []fault.Field{{Name: at, Message: reason(k)}}
	}
}

func each(root string, path, names []string, message string) []fault.Field {
	fields := make([]fault.Field, len(names))
	for i, name := range names {
		fields[i] = fault.Field{Name: fieldName(root, append(path[:len(path):len(path)], name)), Message: message}
	}
	return fields
}

func reason(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		names := make([]string, len(k.Want))
		for i, v := range k.Want {
			names[i] = fmt.Sprint(v)
		}
		return "must be one of " + strings.Join(names, ", ")
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.Pattern:
		return "has characters or a form that are not allowed"
	case *kind.Format:
		return "must be a " + k.Want
	default:
		return "is not valid"
	}
}

// maxFieldName bounds the names that a caller made up, as the contract does.
const maxFieldName = 200

// fieldName turns the path of a value into the contract's notation: events[3].quantity.
func fieldName(root string, path []string) string {
	var name strings.Builder
	if root != bodyField {
		name.WriteString(root)
	}
	for _, part := range path {
		switch _, err := strconv.Atoi(part); {
		case err == nil:
			name.WriteString("[" + part + "]")
		case name.Len() > 0:
			name.WriteString("." + part)
		default:
			name.WriteString(part)
		}
	}
	switch text := []rune(name.String()); {
	case len(text) == 0:
		return root
	case len(text) > maxFieldName:
		return string(text[:maxFieldName]) + "..."
	default:
		return string(text)
	}
}

// CheckRequest checks a value against a request schema of the contract, for callers that do not come over HTTP.
func CheckRequest(schema string, value map[string]any) error {
	_, contractJSON, err := loadContract()
	if err != nil {
		return err
	}
	compiler, err := newSchemaCompiler(contractJSON)
	if err != nil {
		return err
	}
	compiled, err := compiler.Compile(pointer("components", "schemas", schema))
	if err != nil {
		return err
	}
	if err := compiled.Validate(value); err != nil {
		return fault.InvalidFields(complaints(bodyField, err))
	}
	return nil
}
