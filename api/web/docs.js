// Shows /openapi.json. Everything is put in as text, never as HTML.
"use strict";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const parts = schema.oneOf || schema.anyOf;
  if (parts) return parts.map(typeOf).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "any"}`;
  return schema.format ? `${schema.type} (${schema.format})` : String(schema.type || "any");
}

function table(rows) {
  return element("table", "", ...rows.map((row) => element("tr", "", ...row.map((cell) => element("td", cell)))));
}

function route(path, method, operation) {
  const label = element("span", method.toUpperCase());
  label.className = "method";
  const shown = element("details", "", element("summary", "", label, element("code", path)));
  // A docstring's first part is for people, what follows for readers of the source.
  shown.append(element("p", (operation.description || operation.summary || "").split("\n\nArgs:")[0]));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    shown.append(element("h4", "Parameters"));
    shown.append(table(parameters.map((given) =>
      [given.name, given.in, typeOf(given.schema), given.required ? "required" : "", given.description || ""])));
  }
  for (const [type, body] of Object.entries((operation.requestBody || {}).content || {})) {
    shown.append(element("p", `Body: ${type}, ${typeOf(body.schema)}`));
  }
  const answers = Object.entries(operation.responses || {});
  shown.append(element("h4", "Answers"), table(answers.map(([status, answer]) => [status, answer.description || ""])));
  return shown;
}

function schema(name, content) {
  const shown = element("details", "", element("summary", "", element("code", name)));
  if (content.description) shown.append(element("p", content.description.split("\n\n")[0]));
  const required = new Set(content.required || []);
  const rows = Object.entries(content.properties || {}).map(([field, type]) => {
    const otherwise = type.default === undefined ? "" : `default ${JSON.stringify(type.default)}`;
    return [field, typeOf(type), required.has(field) ? "required" : otherwise];
  });
  shown.append(table(rows), element("pre", JSON.stringify(content, null, 2)));
  return shown;
}

async function show() {
  const about = document.getElementById("about");
  const answer = await fetch("/openapi.json");
  if (!answer.ok) {
    about.textContent = `/openapi.json: ${answer.status} ${answer.statusText}`;
    return;
  }
  const document_ = await answer.json();
  about.textContent = `${document_.info.description} Version ${document_.info.version}.`;
  const groups = new Map();
  for (const [path, operations] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const group = (operation.tags || ["other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(route(path, method, operation));
    }
  }
  for (const [group, routes] of groups) {
    document.getElementById("routes").append(element("h2", group), ...routes);
  }
  const schemas = Object.entries(document_.components.schemas);
  document.getElementById("schemas").append(...schemas.map(([name, content]) => schema(name, content)));
}

show();
