"use strict";

// OpenAPI as tables; the usual viewers are loaded from other sites.
function made(tag, ...content) {
  const element = document.createElement(tag);
  element.append(...content);
  return element;
}

function table(heads, rows) {
  const head = made("tr", ...heads.map((text) => made("th", text)));
  return made("table", head, ...rows.map((cells) => made("tr", ...cells.map((text) => made("td", text)))));
}

function limits(schema) {
  const given = [["minimum", "≥"], ["maximum", "≤"]].filter(([key]) => key in schema);
  return [schema.type, ...given.map(([key, sign]) => `${sign} ${schema[key]}`)].join(", ");
}

function operation(method, path, about) {
  const parts = [made("h2", `${method.toUpperCase()} ${path}`), made("p", about.summary ?? "")];
  const parameters = about.parameters ?? [];
  if (parameters.length) {
    parts.push(table(["parameter", "default", "values", "meaning"], parameters.map((one) => [
      one.name, String(one.schema.default ?? ""), limits(one.schema), one.schema.description ?? one.description ?? "",
    ])));
  }
  if (about.requestBody) {
    const kinds = Object.keys(about.requestBody.content).join(", ");
    parts.push(made("p", `Body: ${kinds}. ${about.requestBody.description ?? ""}`));
  }
  parts.push(table(["status", "meaning"], Object.entries(about.responses).map(([status, one]) => [
    status, one.description,
  ])));
  const example = about.responses["200"]?.content?.["application/json"]?.example;
  if (example) parts.push(made("pre", JSON.stringify(example, null, 2)));
  return parts;
}

const address = new URL("predict?score=0.3", location.href);
document.getElementById("example").textContent = [
  `curl -T image.jpg -X POST -H 'Content-Type: image/jpeg' '${address}'`,
  `curl -F file=@one.jpg -F file=@two.jpg '${address}'`,
].join("\n");
fetch("openapi.json").then((response) => response.json()).then((description) => {
  const main = document.getElementById("description");
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, about]) => operation(method, path, about)));
  main.replaceChildren(...operations);
}).catch((error) => { document.getElementById("description").textContent = String(error); });
