/* Is a text well-formed XML as far as reports use it? Elements, attributes, the five entities and numbers, one
 * DOCTYPE without a subset; UTF-8 without what XML 1.0 excludes.
 *
 *     const char *fault = xml_fault(text);      // NULL: none; else a sentence
 */
#ifndef CKPT_XML_CHECK_H
#define CKPT_XML_CHECK_H

const char *xml_fault(const char *text);

#endif
