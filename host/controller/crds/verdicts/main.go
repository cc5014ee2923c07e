// Verdicts asks the code of a kube-apiserver what it thinks of custom resources, without a cluster.
//
//	verdicts CRD.yaml… < objects.jsonl > verdicts.jsonl
//
// Each line of the input is an object; each line of the output is {"errors", "object", "unknown"}: why it is
// refused, the object after defaulting, and the fields that nobody declared. A CRD that an API server would
// not take ends the program.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

type version struct {
	schema *schema.Structural
	values validation.SchemaValidator
	rules  *cel.Validator
}

type verdict struct {
	Errors  []string       `json:"errors"`
	Object  map[string]any `json:"object"`
	Unknown []string       `json:"unknown"`
}

func main() {
	log.SetFlags(0)
	versions := map[string]version{}
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		check(err)
		for _, document := range strings.Split("\n"+string(text), "\n---\n") {
			load(path, document, versions)
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var object map[string]any
		check(yaml.Unmarshal(lines.Bytes(), &object))
		object = integers(object).(map[string]any)
		answer, err := json.Marshal(judge(object, versions[fmt.Sprint(object["apiVersion"], "/", object["kind"])]))
		check(err)
		fmt.Println(string(answer))
	}
	check(lines.Err())
}

func load(path, document string, versions map[string]version) {
	var crd v1.CustomResourceDefinition
	check(yaml.UnmarshalStrict([]byte(document), &crd))
	if crd.Kind != "CustomResourceDefinition" {
		return
	}
	v1.SetDefaults_CustomResourceDefinition(&crd)
	v1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	scheme := runtime.NewScheme()
	install.Install(scheme)
	var internal apiextensions.CustomResourceDefinition
	check(scheme.Convert(&crd, &internal, nil))
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.TODO(), &internal); len(errs) > 0 {
		log.Fatalf("%s: %s: %v", path, crd.Name, errs.ToAggregate())
	}
	for _, served := range crd.Spec.Versions {
		var props apiextensions.CustomResourceValidation
		check(v1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(served.Schema, &props, nil))
		structural, err := schema.NewStructural(props.OpenAPIV3Schema)
		check(err)
		values, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
		check(err)
		name := crd.Spec.Group + "/" + served.Name + "/" + crd.Spec.Names.Kind
		versions[name] = version{structural, values, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
}

// The order is that of the strategy of custom resources on creation.
func judge(object map[string]any, v version) verdict {
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	unknown := pruning.PruneWithOptions(runtime.DeepCopyJSONValue(object), v.schema, true, options)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, v.schema)
	defaulting.Default(object, v.schema)
	delete(object, "status")
	errs := validation.ValidateCustomResource(nil, object, v.values)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.schema, object)...)
	if !blocking(errs) {
		ruled, _ := v.rules.Validate(context.TODO(), nil, v.schema, object, nil, math.MaxInt64)
		errs = append(errs, ruled...)
	}
	answer := verdict{Errors: []string{}, Object: object, Unknown: unknown}
	for _, err := range errs {
		answer.Errors = append(answer.Errors, err.Error())
	}
	return answer
}

func blocking(errs field.ErrorList) bool {
	for _, err := range errs {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany,
			field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}

func integers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			value[key] = integers(inner)
		}
	case []any:
		for index, inner := range value {
			value[index] = integers(inner)
		}
	case float64:
		if value == math.Trunc(value) && math.Abs(value) < 1<<53 {
			return int64(value)
		}
	}
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
